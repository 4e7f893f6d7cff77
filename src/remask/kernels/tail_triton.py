"""The tail's kernels: every block of a row leaves a few numbers, and one program a row puts them together; a draw reads one block again."""

# pyright: reportCallIssue=false, reportArgumentType=false, reportMissingImports=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096
"""Columns a program reads: 31 programs a row of 126,464."""


@triton.jit
def _four(joined):
    """The four numbers of `tl.join(tl.join(a, b), tl.join(c, d))`, in that order."""
    left, right = tl.split(joined)
    a, b = tl.split(left)
    c, d = tl.split(right)
    return a, b, c, d


@triton.jit
def _blocks(
    logits, stride, before, before_stride, at, part, token, exact, columns, count,
    MASK: tl.constexpr, BLOCK: tl.constexpr, DRAWS: tl.constexpr, MOVES: tl.constexpr,
):  # fmt: skip
    """Of one block of one row: largest and second logit, sum of exponentials, and what the entropy and the divergence need, relative to the largest."""
    row, block, lane = tl.program_id(0).to(tl.int64), tl.program_id(1), tl.arange(0, BLOCK)
    column = block * BLOCK + lane
    there = (column < columns) & (column != MASK)
    x = tl.load(logits + row * stride + column, mask=there, other=float("-inf")).to(tl.float32)
    then = x
    if MOVES:
        then = tl.load(before + tl.load(at + row) * before_stride + column, mask=there, other=float("-inf")).to(tl.float32)
    largest, highest = tl.split(tl.max(tl.join(x, then), 0))
    # of those that are as large the first and the last, and the largest below them: exact in float32, and one reduction for all
    ties, near = (x == largest) & there, lane.to(tl.float32)
    ends = tl.join(tl.where(ties, -near, -BLOCK), tl.where(ties, near, -1.0))
    found = tl.max(tl.join(ends, tl.join(tl.where(ties, float("-inf"), x), then)), 0)
    first, final, below, _ = _four(found)
    base = tl.where(largest == float("-inf"), 0.0, largest)
    above = x - base
    weight = tl.exp(above)
    place = row * count + block
    field = tl.num_programs(0).to(tl.int64) * count
    tl.store(part + place, largest)
    tl.store(part + field + place, tl.where(final > -first, largest, below))
    tl.store(token + place, tl.where(first > -BLOCK, block * BLOCK - first.to(tl.int32), columns))
    spread = tl.where(weight > 0, weight * above, 0.0)
    if MOVES:
        under = tl.where(highest == float("-inf"), 0.0, highest)
        crossed = tl.where(weight > 0, weight * (x - then), 0.0)
        sums = tl.sum(tl.join(tl.join(weight, spread), tl.join(crossed, tl.exp(then - under))), 0)
        mass, entropy, moved, old = _four(sums)
        tl.store(part + 4 * field + place, moved)
        tl.store(part + 5 * field + place, highest)
        tl.store(part + 6 * field + place, old)
    else:
        mass, entropy = tl.split(tl.sum(tl.join(weight, spread), 0))
    tl.store(part + 2 * field + place, mass)
    tl.store(part + 3 * field + place, entropy)
    if DRAWS:
        tl.store(exact + place, tl.sum(tl.exp(above.to(tl.float64)), 0))


@triton.jit
def _rows(part, token, out, best, columns, count, COUNT: tl.constexpr, MOVES: tl.constexpr):
    """One row from its blocks: weight, second, entropy, total, moved."""
    row = tl.program_id(0).to(tl.int64)
    block = tl.arange(0, COUNT)
    there = block < count
    place = row * count + block
    rows = tl.num_programs(0).to(tl.int64)
    field = rows * count
    largest = tl.load(part + place, mask=there, other=float("-inf"))
    seconds = tl.load(part + field + place, mask=there, other=float("-inf"))
    sums = tl.load(part + 2 * field + place, mask=there, other=0.0)
    parts = tl.load(part + 3 * field + place, mask=there, other=0.0)
    tokens = tl.load(token + place, mask=there, other=columns)
    top = tl.max(largest, 0)
    chosen = tl.min(tl.where(largest == top, tokens, columns), 0)
    second = tl.maximum(tl.max(tl.where(tokens == chosen, float("-inf"), largest), 0), tl.max(tl.where(tokens == chosen, seconds, float("-inf")), 0))
    base = tl.where(largest == float("-inf"), 0.0, largest)
    scale = tl.where(there, tl.exp(base - top), 0.0)
    sum_ = tl.sum(scale * sums, 0)
    total = top + tl.log(sum_)
    tl.store(out + row, sum_)
    tl.store(out + rows + row, tl.exp(second - top) / sum_)
    tl.store(out + 2 * rows + row, tl.log(sum_) - tl.sum(tl.where(scale > 0, scale * (parts + (base - top) * sums), 0.0), 0) / sum_)
    tl.store(out + 3 * rows + row, total)
    tl.store(best + row, tl.minimum(chosen, columns - 1).to(tl.int64))
    if MOVES:
        crossed = tl.load(part + 4 * field + place, mask=there, other=0.0)
        highest = tl.load(part + 5 * field + place, mask=there, other=float("-inf"))
        old = tl.load(part + 6 * field + place, mask=there, other=0.0)
        peak = tl.max(highest, 0)
        under = tl.where(highest == float("-inf"), 0.0, highest)
        before = peak + tl.log(tl.sum(tl.where(old > 0, tl.exp(under - peak) * old, 0.0), 0))
        tl.store(out + 4 * rows + row, tl.sum(tl.where(scale > 0, scale * crossed, 0.0), 0) / sum_ - (total - before))


@triton.jit
def _draws(logits, stride, part, exact, uniform, drawn, columns, count, MASK: tl.constexpr, BLOCK: tl.constexpr, COUNT: tl.constexpr):
    """The block in which the cumulative sum passes the uniform, then the column, both in float64."""
    row = tl.program_id(0).to(tl.int64)
    block = tl.arange(0, COUNT)
    there = block < count
    largest = tl.load(part + row * count + block, mask=there, other=float("-inf"))
    base = tl.where(largest == float("-inf"), 0.0, largest)
    top = tl.max(largest, 0)
    scale = tl.exp(base.to(tl.float64) - top.to(tl.float64))
    weight = tl.where(there, tl.load(exact + row * count + block, mask=there, other=0.0) * scale, 0.0)
    summed = tl.cumsum(weight, 0)
    target = tl.load(uniform + row) * tl.sum(weight, 0)
    last = tl.max(tl.where(weight > 0, block, 0), 0)
    chosen = tl.minimum(tl.sum(((summed <= target) & there).to(tl.int32), 0), last)
    rest = target - tl.sum(tl.where(block < chosen, weight, 0.0), 0)
    column = chosen * BLOCK + tl.arange(0, BLOCK)
    inside = (column < columns) & (column != MASK)
    x = tl.load(logits + row * stride + column, mask=inside, other=float("-inf")).to(tl.float64)
    each = tl.exp(x - top.to(tl.float64))
    passed = tl.sum((tl.cumsum(each, 0) <= rest).to(tl.int32), 0) + chosen * BLOCK
    tl.store(drawn + row, tl.minimum(passed, tl.max(tl.where(each > 0, column, 0), 0)).to(tl.int64))


def launch(logits: Tensor, mask_id: int, uniform: Tensor | None, before: Tensor | None, at: Tensor | None) -> dict[str, Tensor]:
    """The fields of a Tail; see remask.kernels.tail."""
    rows, columns = logits.shape
    count = triton.cdiv(columns, BLOCK)
    wide = triton.next_power_of_2(count)
    part = torch.empty(7 if before is not None else 4, rows, count, dtype=torch.float32, device=logits.device)
    token = torch.empty(rows, count, dtype=torch.int32, device=logits.device)
    exact = torch.empty(rows if uniform is not None else 0, count, dtype=torch.float64, device=logits.device)
    out = torch.empty(5, rows, dtype=torch.float32, device=logits.device)
    best = torch.empty(rows, dtype=torch.int64, device=logits.device)
    if before is not None and at is None:
        at = torch.arange(rows, device=logits.device)
    options = {"MASK": mask_id, "BLOCK": BLOCK}
    _blocks[(rows, count)](
        logits, logits.stride(0), before, 0 if before is None else before.stride(0), at, part, token, exact, columns, count,
        DRAWS=uniform is not None, MOVES=before is not None, num_warps=4, **options,
    )  # fmt: skip
    _rows[(rows,)](part, token, out, best, columns, count, COUNT=wide, MOVES=before is not None, num_warps=1)
    found = {"weight": out[0], "second": out[1], "token": best, "entropy": out[2], "total": out[3]}
    if uniform is not None:
        found["drawn"] = torch.empty_like(best)
        _draws[(rows,)](logits, logits.stride(0), part, exact, uniform, found["drawn"], columns, count, COUNT=wide, num_warps=8, **options)
    if before is not None:
        found["moved"] = out[4]
    return found
