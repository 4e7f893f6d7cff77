"""The kernels of remask.kernels.places: one program a row of the canvas, or a piece of what is written over."""

# pyright: reportCallIssue=false, reportArgumentType=false, reportMissingImports=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from remask.kernels.tail import Tail


@triton.jit
def _compact(active, place, more, length, size, WIDTH: tl.constexpr):
    """Active positions by rank; the slots behind the last of them repeat it."""
    row, lane = tl.program_id(0).to(tl.int64), tl.arange(0, WIDTH)
    is_active = tl.load(active + row * length + lane, mask=lane < length, other=0).to(tl.int32)
    rank = tl.cumsum(is_active, 0)
    count = tl.sum(is_active, 0)
    last = tl.max(tl.where(is_active != 0, lane, 0), 0)
    tl.store(place + row * size + rank - 1, lane.to(tl.int64), mask=(is_active != 0) & (rank <= size))
    tl.store(place + row * size + lane, tl.zeros((WIDTH,), tl.int64) + last, mask=(lane >= count) & (lane < size))
    tl.store(more + row, count > size)


def launch_compact(active: Tensor, size: int) -> tuple[Tensor, Tensor]:
    """See remask.kernels.places.compact."""
    rows, length = active.shape
    place = torch.empty(rows, size, dtype=torch.int64, device=active.device)
    more = torch.empty(rows, dtype=torch.bool, device=active.device)
    _compact[(rows,)](active.contiguous(), place, more, length, size, WIDTH=triton.next_power_of_2(length), num_warps=4)
    return place, more


@triton.jit
def _spread(
    token, weight, second, entropy, total, drawn, moved, logits, stride, asked, tokens, candidates, numbers, bad, length, count,
    DRAWN: tl.constexpr, MOVED: tl.constexpr, EVERYWHERE: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """Each position fetches what its rank among the asked ones says; numbers: (fields, B, L)."""
    row, lane = tl.program_id(0).to(tl.int64), tl.arange(0, WIDTH)
    inside = lane < length
    asks = inside & (tl.load(asked + row * length + lane, mask=inside, other=0) != 0)
    rank = lane if EVERYWHERE else tl.cumsum(asks.to(tl.int32), 0) - 1
    slot = row * count + tl.minimum(rank, count - 1)
    field = tl.num_programs(0).to(tl.int64) * length
    place = row * length + lane
    best = tl.load(token + slot, mask=asks, other=0)
    scale = tl.load(weight + slot, mask=asks, other=1.0)
    sum_ = tl.load(total + slot, mask=asks, other=0.0)
    tl.store(tokens + place, best, mask=inside)
    tl.store(numbers + place, tl.where(asks, 1 / scale, 0.0), mask=inside)
    tl.store(numbers + field + place, tl.load(second + slot, mask=asks, other=0.0), mask=inside)
    tl.store(numbers + 2 * field + place, tl.load(entropy + slot, mask=asks, other=0.0), mask=inside)
    if DRAWN:
        chosen = tl.load(drawn + slot, mask=asks, other=0)
        tl.store(candidates + place, chosen, mask=inside)
        at = tl.load(logits + slot * stride + chosen, mask=asks, other=0.0).to(tl.float32)
        top = tl.load(logits + slot * stride + best, mask=asks, other=0.0).to(tl.float32)
        tl.store(numbers + 3 * field + place, tl.where(asks, tl.exp(at - top) / scale, 0.0), mask=inside)
    if MOVED:
        tl.store(numbers + 4 * field + place, tl.load(moved + slot, mask=asks, other=0.0), mask=inside)
    tl.store(bad + row, tl.max((sum_ != sum_).to(tl.int32), 0) != 0)


def launch_spread(found: Tail, logits: Tensor, asked: Tensor, everywhere: bool) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None, Tensor]:
    """The fields of a Spread in order; see remask.kernels.places."""
    rows, length = asked.shape
    draws, moves = found.drawn is not None, found.moved is not None
    numbers = torch.empty(5, rows, length, dtype=torch.float32, device=asked.device)
    token = torch.empty(rows, length, dtype=torch.int64, device=asked.device)
    candidates = torch.empty_like(token) if draws else token
    bad = torch.empty(rows, dtype=torch.bool, device=asked.device)
    _spread[(rows,)](
        found.token, found.weight, found.second, found.entropy, found.total, found.drawn, found.moved, logits, logits.stride(0), asked.contiguous(),
        token, candidates, numbers, bad, length, len(found.token) // rows, DRAWN=draws, MOVED=moves, EVERYWHERE=everywhere,
        WIDTH=triton.next_power_of_2(length), num_warps=4,
    )  # fmt: skip
    sampled = numbers[3] if draws else numbers[0]
    return token, candidates, numbers[0], numbers[1], sampled, numbers[2], numbers[4] if moves else None, bad


@triton.jit
def _put_rows(kept, rows, place, there, batch_stride, stride, count, width, SOME: tl.constexpr, WIDTH: tl.constexpr):
    """WIDTH numbers of one row, to its place."""
    slot, lane = tl.program_id(0).to(tl.int64), tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    inside = lane < width
    if SOME:
        inside = inside & (tl.load(there + slot) != 0)
    at = slot // count * batch_stride + tl.load(place + slot) * stride
    tl.store(kept + at + lane, tl.load(rows + slot * width + lane, mask=inside, other=0.0), mask=inside)


def launch_put_rows(kept: Tensor, rows: Tensor, place: Tensor, there: Tensor | None) -> None:
    """See remask.kernels.places.put_rows."""
    batch, count, width = rows.shape
    size = min(4096, int(triton.next_power_of_2(width)))
    _put_rows[(batch * count, triton.cdiv(width, size))](
        kept, rows.contiguous(), place.contiguous(), None if there is None else there.contiguous(), *kept.stride()[:2], count, width,
        SOME=there is not None, WIDTH=size, num_warps=4,
    )  # fmt: skip
