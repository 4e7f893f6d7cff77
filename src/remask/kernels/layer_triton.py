"""The layer's kernels: a matrix product for few rows that streams its weights once, with all that stands behind it; norm, gate, and rotation with the scatter.

Few rows are bound by reading weights; what is left beside that are the gaps between launches. Starting kernels early (programmatic dependent launch) and fetching the
next weights into L2 meanwhile were tried on an H100 and are slower or no faster (docs/findings/gpu.md).
"""

# pyright: reportCallIssue=false, reportArgumentType=false, reportMissingImports=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _linear(
    x, weight, bias, residual, out, rows, inner: tl.constexpr, columns: tl.constexpr,
    BIAS: tl.constexpr, RESIDUAL: tl.constexpr, GATED: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """All rows times COLUMNS columns; gated: times COLUMNS gates and the COLUMNS that they gate, side by side in one product.

    PARTS: of the inner dimension, each with programs of its own; above 1 their sums lie behind one another in `out`.
    WIDE: for the interpreter, whose product takes the bits of a bfloat16 for an integer.
    """
    SIDES: tl.constexpr = 2 if GATED else 1  # pyright: ignore[reportAssignmentType]
    row, depth, side = tl.arange(0, ROWS), tl.arange(0, INNER), tl.arange(0, SIDES * COLUMNS)
    own = tl.program_id(0) * COLUMNS + side % COLUMNS
    column = own + side // COLUMNS * columns
    here, there = row < rows, own < columns
    total = tl.zeros((ROWS, SIDES * COLUMNS), dtype=tl.float32)
    share: tl.constexpr = (inner + PARTS * INNER - 1) // (PARTS * INNER) * INNER
    first = tl.program_id(1) * share
    for start in range(0, share, INNER):
        at = first + start + depth
        inside = at < inner
        a = tl.load(x + row[:, None] * inner + at[None, :], mask=here[:, None] & inside[None, :], other=0.0)
        tile = column.to(tl.int64)[None, :] * inner + at[:, None]
        w = tl.load(weight + tile, mask=there[None, :] & inside[:, None], other=0.0, eviction_policy="evict_first")
        if WIDE:
            a, w = a.to(tl.float32), w.to(tl.float32)
        total = tl.dot(a, w, total, input_precision="ieee")
    if BIAS:
        total += tl.load(bias + column, mask=there, other=0.0).to(tl.float32)[None, :]
    if GATED:
        gate, up = tl.split(tl.permute(tl.reshape(total, (ROWS, 2, COLUMNS)), (0, 2, 1)))
        total = gate / (1 + tl.exp(-gate)) * up
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    place = row[:, None] * columns + column[None, :]
    inside_out = here[:, None] & (column < columns)[None, :]
    if RESIDUAL:
        total += tl.load(residual + place, mask=inside_out, other=0.0).to(tl.float32)
    tl.store(out + tl.program_id(1) * rows * columns + place, total, mask=inside_out)


def tile_of(rows: int, *, gated: bool = False, parts: int = 1) -> dict[str, Any]:
    """What a program takes: the fastest of benchmarks/step.py --tiles on an H200.

    32 columns and four stages of 128, or of a gate three, let three programs share a multiprocessor, so that the 384 of a product of 12,288 columns all run at once.
    """
    columns, inner, warps, stages = 64, 64, 4, 4
    if rows <= 32:
        columns, inner, stages = 32, 128, 3 if gated else 5 if parts > 1 else 4
    elif rows <= 64 and parts == 4:
        inner, warps, stages = 128, 8, 3
    elif rows <= 64:
        columns, inner = 32, 64 if gated else 128
    return {"ROWS": max(16, triton.next_power_of_2(rows)), "COLUMNS": columns, "INNER": inner, "num_warps": warps, "num_stages": stages}


def launch_linear(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, gated: bool, tile: dict[str, Any] | None = None) -> Tensor:
    """See remask.kernels.layer.linear."""
    rows, inner = x.shape
    columns = weight.shape[0] // (2 if gated else 1)
    out = torch.empty(rows, columns, dtype=x.dtype, device=x.device)
    tile = tile or tile_of(rows, gated=gated)
    _linear[(triton.cdiv(columns, tile["COLUMNS"]),)](
        x, weight, bias, residual, out, rows, inner, columns, BIAS=bias is not None, RESIDUAL=residual is not None, GATED=gated, WIDE=not x.is_cuda, PARTS=1, **tile,
    )  # fmt: skip
    return out


def launch_parts(x: Tensor, weight: Tensor, parts: int, tile: dict[str, Any] | None = None) -> Tensor:
    """x (N, D) times weight (O, D) transposed, by `parts` sums over D: (parts, N, O) float32."""
    rows, inner = x.shape
    columns = weight.shape[0]
    out = torch.empty(parts, rows, columns, device=x.device)
    tile = tile or tile_of(rows, parts=parts)
    _linear[(triton.cdiv(columns, tile["COLUMNS"]), parts)](
        x, weight, None, None, out, rows, inner, columns, BIAS=False, RESIDUAL=False, GATED=False, WIDE=not x.is_cuda, PARTS=parts, **tile,
    )  # fmt: skip
    return out


@triton.jit
def _norm(x, parts, bias, weight, settled, out, rows, inner: tl.constexpr, eps, WIDTH: tl.constexpr, PARTS: tl.constexpr, BIAS: tl.constexpr):
    """One row by its root mean square, rounded before the weight as the networks do; with PARTS, of the row plus what a product left in parts, which is stored as well."""
    row, lane = tl.program_id(0).to(tl.int64), tl.arange(0, WIDTH)
    there = lane < inner
    value = tl.load(x + row * inner + lane, mask=there, other=0.0)
    wide = value.to(tl.float32)
    if PARTS:
        for part in tl.static_range(PARTS):  # pyright: ignore[reportGeneralTypeIssues]
            wide += tl.load(parts + (part * rows + row) * inner + lane, mask=there, other=0.0)
        if BIAS:
            wide += tl.load(bias + lane, mask=there, other=0.0).to(tl.float32)
        value = wide.to(value.dtype)
        tl.store(settled + row * inner + lane, value, mask=there)
        wide = value.to(tl.float32)
    normal = (wide / tl.sqrt(tl.sum(wide * wide, 0) / inner + eps)).to(value.dtype).to(tl.float32)
    tl.store(out + row * inner + lane, normal * tl.load(weight + lane, mask=there, other=0.0).to(tl.float32), mask=there)


def launch_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """(N, D) contiguous -> (N, D)."""
    out = torch.empty_like(x)
    _norm[(x.shape[0],)](x, None, None, weight, None, out, x.shape[0], x.shape[1], eps, WIDTH=triton.next_power_of_2(x.shape[1]), PARTS=0, BIAS=False, num_warps=8)
    return out


def launch_settle(x: Tensor, parts: Tensor, bias: Tensor | None, weight: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    """x (N, D) plus parts (P, N, D) and bias (D,), and the norm of that: (N, D) each."""
    settled, out = torch.empty_like(x), torch.empty_like(x)
    _norm[(x.shape[0],)](
        x, parts, bias, weight, settled, out, x.shape[0], x.shape[1], eps,
        WIDTH=triton.next_power_of_2(x.shape[1]), PARTS=parts.shape[0], BIAS=bias is not None, num_warps=8,
    )  # fmt: skip
    return settled, out


@triton.jit
def _gate(x, out, columns: tl.constexpr, WIDTH: tl.constexpr):
    """SiLU of a row's first half times its second, WIDTH columns a program."""
    row, lane = tl.program_id(0).to(tl.int64), tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    there = lane < columns
    gate = tl.load(x + row * 2 * columns + lane, mask=there, other=0.0).to(tl.float32)
    up = tl.load(x + row * 2 * columns + columns + lane, mask=there, other=0.0).to(tl.float32)
    tl.store(out + row * columns + lane, gate / (1 + tl.exp(-gate)) * up, mask=there)


def launch_gate(x: Tensor) -> Tensor:
    """(N, 2 F) contiguous -> (N, F)."""
    rows, columns = x.shape[0], x.shape[1] // 2
    out = torch.empty(rows, columns, dtype=x.dtype, device=x.device)
    _gate[(rows, triton.cdiv(columns, 2048))](x, out, columns, WIDTH=2048, num_warps=8)
    return out


@triton.jit
def _turn(
    mixed, cos, sin, place, query, keys, values, chosen, length, heads, key_heads, angle_stride, WIDTH: tl.constexpr, HEADS: tl.constexpr, PLACED: tl.constexpr,
):  # fmt: skip
    """HEADS heads of one position of one row: queries and keys turned, keys and values scattered."""
    at, row = tl.program_id(0), tl.program_id(2).to(tl.int64)
    half: tl.constexpr = WIDTH // 2
    head, lane = (tl.program_id(1) * HEADS + tl.arange(0, HEADS))[:, None], tl.arange(0, half)[None, :]
    there = (head < heads + 2 * key_heads) & (lane < half)
    source = mixed + (row * chosen + at) * (heads + 2 * key_heads) * WIDTH + head * WIDTH + lane
    first, second = tl.load(source, mask=there, other=0.0).to(tl.float32), tl.load(source + half, mask=there, other=0.0).to(tl.float32)
    angle = row * angle_stride + at * WIDTH + lane
    c, s, c2, s2 = tl.load(cos + angle), tl.load(sin + angle), tl.load(cos + angle + half), tl.load(sin + angle + half)
    turns = head < heads + key_heads
    turned, turned2 = tl.where(turns, first * c - second * s, first), tl.where(turns, second * c2 + first * s2, second)
    to = at.to(tl.int64)
    if PLACED:
        to = tl.load(place + row * chosen + at)
    target, mine = query + ((row * chosen + at) * heads + head) * WIDTH + lane, there & (head < heads)
    tl.store(target, turned, mask=mine)
    tl.store(target + half, turned2, mask=mine)
    target, mine = keys + ((row * key_heads + head - heads) * length + to) * WIDTH + lane, there & (head >= heads) & turns
    tl.store(target, turned, mask=mine)
    tl.store(target + half, turned2, mask=mine)
    target, mine = values + ((row * key_heads + head - heads - key_heads) * length + to) * WIDTH + lane, there & (head >= heads + key_heads)
    tl.store(target, turned, mask=mine)
    tl.store(target + half, turned2, mask=mine)


@triton.jit
def _turn_here(mixed, cos, sin, chosen, heads, all_heads, angle_stride, WIDTH: tl.constexpr, HEADS: tl.constexpr):
    """HEADS heads of one position of one row, turned where they stand."""
    at, row = tl.program_id(0), tl.program_id(2).to(tl.int64)
    half: tl.constexpr = WIDTH // 2
    head, lane = (tl.program_id(1) * HEADS + tl.arange(0, HEADS))[:, None], tl.arange(0, half)[None, :]
    there = (head < heads) & (lane < half)
    place = mixed + (row * chosen + at) * all_heads * WIDTH + head * WIDTH + lane
    first, second = tl.load(place, mask=there, other=0.0).to(tl.float32), tl.load(place + half, mask=there, other=0.0).to(tl.float32)
    angle = row * angle_stride + at * WIDTH + lane
    tl.store(place, first * tl.load(cos + angle) - second * tl.load(sin + angle), mask=there)
    tl.store(place + half, second * tl.load(cos + angle + half) + first * tl.load(sin + angle + half), mask=there)


def launch_turn_here(mixed: Tensor, cos: Tensor, sin: Tensor, heads: int) -> None:
    """Turn the first `heads` heads of mixed (B, M, A * E) in place."""
    rows, chosen, total = mixed.shape
    width = cos.shape[-1]
    _turn_here[(chosen, triton.cdiv(heads, 8), rows)](
        mixed, cos, sin, chosen, heads, total // width, 0 if cos.shape[0] == 1 else chosen * width, WIDTH=width, HEADS=8, num_warps=4,
    )  # fmt: skip


def launch_turn(mixed: Tensor, cos: Tensor, sin: Tensor, keys: Tensor, values: Tensor, place: Tensor | None, heads: int) -> Tensor:
    """See remask.kernels.layer.turn; returns the queries, in memory (B, M, H, E): a library's attention writes its result in that order, so that nothing is transposed."""
    rows, chosen, _ = mixed.shape
    key_heads, length, width = keys.shape[1:]
    query = torch.empty(rows, chosen, heads, width, dtype=mixed.dtype, device=mixed.device)
    _turn[(chosen, triton.cdiv(heads + 2 * key_heads, 8), rows)](
        mixed, cos, sin, place, query, keys, values, chosen, length, heads, key_heads, 0 if cos.shape[0] == 1 else chosen * width,
        WIDTH=width, HEADS=8, PLACED=place is not None, num_warps=4,
    )  # fmt: skip
    return query.transpose(1, 2)
