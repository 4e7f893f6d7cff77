"""The layer's kernels for few rows: a matrix product that streams its weights once with all that stands around it, and rotation with the scatter."""

# pyright: reportCallIssue=false, reportArgumentType=false, reportMissingImports=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _linear(
    x, weight, bias, norm, residual, out, rows, eps, inner: tl.constexpr, columns: tl.constexpr,
    NORM: tl.constexpr, BIAS: tl.constexpr, RESIDUAL: tl.constexpr, GATED: tl.constexpr, WIDE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr,
):  # fmt: skip
    """All rows times COLUMNS columns. The norm's statistic is summed while x passes by, and applied to the sum: the weight is read once.

    WIDE: for the interpreter, whose product takes the bits of a bfloat16 for an integer.
    """
    row, column, depth = tl.arange(0, ROWS), tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS), tl.arange(0, INNER)
    here, there = row < rows, column < columns
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    other = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    square = tl.zeros((ROWS,), dtype=tl.float32)
    for start in range(0, inner, INNER):
        inside = start + depth < inner
        a = tl.load(x + row[:, None] * inner + (start + depth)[None, :], mask=here[:, None] & inside[None, :], other=0.0)
        if NORM:
            wide = a.to(tl.float32)
            square += tl.sum(wide * wide, 1)
            a = (wide * tl.load(norm + start + depth, mask=inside, other=0.0).to(tl.float32)[None, :]).to(a.dtype)
        tile = column.to(tl.int64)[None, :] * inner + (start + depth)[:, None]
        w = tl.load(weight + tile, mask=there[None, :] & inside[:, None], other=0.0, eviction_policy="evict_first")
        if WIDE:
            a, w = a.to(tl.float32), w.to(tl.float32)
        total = tl.dot(a, w, total, input_precision="ieee")
        if GATED:
            up = tl.load(weight + columns * inner + tile, mask=there[None, :] & inside[:, None], other=0.0, eviction_policy="evict_first")
            if WIDE:
                up = up.to(tl.float32)
            other = tl.dot(a, up, other, input_precision="ieee")
    if NORM:
        scale = 1 / tl.sqrt(square / inner + eps)
        total *= scale[:, None]
        other *= scale[:, None]
    if BIAS:
        total += tl.load(bias + column, mask=there, other=0.0).to(tl.float32)[None, :]
        if GATED:
            other += tl.load(bias + columns + column, mask=there, other=0.0).to(tl.float32)[None, :]
    if GATED:
        total = total / (1 + tl.exp(-total)) * other
    place = row[:, None] * columns + column[None, :]
    inside_out = here[:, None] & there[None, :]
    if RESIDUAL:
        total += tl.load(residual + place, mask=inside_out, other=0.0).to(tl.float32)
    tl.store(out + place, total, mask=inside_out)


def tile_of(rows: int, gated: bool) -> dict[str, Any]:
    """What a program takes. 32 columns make 128 programs of 4,096: one wave of 132 multiprocessors; three stages of 8 KB each are then in flight on each,
    what bandwidth times latency asks for. Not tuned on a GPU yet: benchmarks/step.py --products measures it.
    """
    return {"ROWS": max(16, triton.next_power_of_2(rows)), "COLUMNS": 16 if gated else 32, "INNER": 128, "num_warps": 4, "num_stages": 4}


def launch_linear(x: Tensor, weight: Tensor, bias: Tensor | None, norm: Tensor | None, eps: float, residual: Tensor | None, gated: bool) -> Tensor:
    """See remask.kernels.layer.linear."""
    rows, inner = x.shape
    columns = weight.shape[0] // (2 if gated else 1)
    out = torch.empty(rows, columns, dtype=x.dtype, device=x.device)
    tile = tile_of(rows, gated)
    _linear[(triton.cdiv(columns, tile["COLUMNS"]),)](
        x, weight, bias, norm, residual, out, rows, eps, inner, columns,
        NORM=norm is not None, BIAS=bias is not None, RESIDUAL=residual is not None, GATED=gated, WIDE=not x.is_cuda,
        **tile,
    )  # fmt: skip
    return out


@triton.jit
def _norm(x, weight, out, inner: tl.constexpr, eps, WIDTH: tl.constexpr):
    """One row by its root mean square, rounded before the weight as the networks do."""
    row, lane = tl.program_id(0).to(tl.int64), tl.arange(0, WIDTH)
    there = lane < inner
    value = tl.load(x + row * inner + lane, mask=there, other=0.0)
    wide = value.to(tl.float32)
    normal = (wide / tl.sqrt(tl.sum(wide * wide, 0) / inner + eps)).to(value.dtype).to(tl.float32)
    tl.store(out + row * inner + lane, normal * tl.load(weight + lane, mask=there, other=0.0).to(tl.float32), mask=there)


def launch_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """(N, D) contiguous -> (N, D)."""
    out = torch.empty_like(x)
    _norm[(x.shape[0],)](x, weight, out, x.shape[1], eps, WIDTH=triton.next_power_of_2(x.shape[1]), num_warps=8)
    return out


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
    _gate[(rows, triton.cdiv(columns, 1024))](x, out, columns, WIDTH=1024, num_warps=4)
    return out


@triton.jit
def _turn(
    mixed, cos, sin, place, query, keys, values, chosen, length, heads, key_heads, angle_stride,
    WIDTH: tl.constexpr, PLACED: tl.constexpr,
):  # fmt: skip
    """One head of one position of one row: queries and keys turned, keys and values scattered."""
    at, head, row = tl.program_id(0), tl.program_id(1), tl.program_id(2).to(tl.int64)
    half: tl.constexpr = WIDTH // 2
    lane = tl.arange(0, half)
    source = mixed + ((row * chosen + at) * (heads + 2 * key_heads) + head) * WIDTH
    first, second = tl.load(source + lane).to(tl.float32), tl.load(source + half + lane).to(tl.float32)
    if head < heads + key_heads:
        angle = row * angle_stride + at * WIDTH
        c, s = tl.load(cos + angle + lane), tl.load(sin + angle + lane)
        c2, s2 = tl.load(cos + angle + half + lane), tl.load(sin + angle + half + lane)
        turned, turned2 = first * c - second * s, second * c2 + first * s2
    else:
        turned, turned2 = first, second
    to = at.to(tl.int64)
    if PLACED:
        to = tl.load(place + row * chosen + at)
    if head < heads:
        target = query + ((row * heads + head) * chosen + at) * WIDTH
    elif head < heads + key_heads:
        target = keys + ((row * key_heads + head - heads) * length + to) * WIDTH
    else:
        target = values + ((row * key_heads + head - heads - key_heads) * length + to) * WIDTH
    tl.store(target + lane, turned)
    tl.store(target + half + lane, turned2)


def launch_turn(mixed: Tensor, cos: Tensor, sin: Tensor, keys: Tensor, values: Tensor, place: Tensor | None, heads: int) -> Tensor:
    """See remask.kernels.layer.turn; returns the queries."""
    rows, chosen, _ = mixed.shape
    key_heads, length, width = keys.shape[1:]
    query = torch.empty(rows, heads, chosen, width, dtype=mixed.dtype, device=mixed.device)
    _turn[(chosen, heads + 2 * key_heads, rows)](
        mixed, cos, sin, place, query, keys, values, chosen, length, heads, key_heads, 0 if cos.shape[0] == 1 else chosen * width,
        WIDTH=width, PLACED=place is not None, num_warps=1,
    )  # fmt: skip
    return query
