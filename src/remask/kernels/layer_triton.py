"""The layer's kernels: a matrix product for few rows that streams its weights once, with all that stands behind it; norm, gate, and rotation with the scatter.

Few rows are bound by reading weights, so that memory must never rest: each kernel starts while the one before ends, and asks for its first weights, or the small
ones for those of the product behind them, before it waits.
"""

# pyright: reportCallIssue=false, reportArgumentType=false, reportMissingImports=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
from __future__ import annotations

from functools import cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def _after(PDL: tl.constexpr):
    """Behind this line the kernels before are done and what they wrote is visible; the next kernel may begin with what needs none of it.

    With programmatic dependent launch a kernel starts while the one before still runs. Every kernel here calls this before it reads or writes what is no weight,
    so that each waits for the one before it, and with it for all before that.
    """
    if PDL:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()


@triton.jit
def _fetch(address):
    """Ask for the 128 bytes at each of these addresses to be in L2."""
    tl.inline_asm_elementwise("prefetch.global.L2 [$1]; mov.u32 $0, 0;", "=r,l", [address], dtype=tl.int32, is_pure=False, pack=1)


@triton.jit
def _fetch_share(following, lines, SHARE: tl.constexpr, program):
    """This program's SHARE lines of 128 bytes of the weights that come next, the last one again beyond the end."""
    if SHARE:
        line = tl.minimum(program.to(tl.int64) * SHARE + tl.arange(0, SHARE), lines - 1)
        _fetch(following.to(tl.int64) + line * 128)


@triton.jit
def _linear(
    x, weight, bias, residual, out, rows, inner: tl.constexpr, columns: tl.constexpr,
    BIAS: tl.constexpr, RESIDUAL: tl.constexpr, GATED: tl.constexpr, WIDE: tl.constexpr, PDL: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, AHEAD: tl.constexpr,
):  # fmt: skip
    """All rows times COLUMNS columns. AHEAD: elements of each column that are asked for before the kernels ahead of this one are done.

    WIDE: for the interpreter, whose product takes the bits of a bfloat16 for an integer.
    """
    row, column, depth = tl.arange(0, ROWS), tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS), tl.arange(0, INNER)
    here, there = row < rows, column < columns
    if PDL and AHEAD:
        line = tl.minimum(column, columns - 1).to(tl.int64)[:, None] * inner + tl.arange(0, AHEAD // 64)[None, :] * 64
        _fetch((weight + line).to(tl.int64))
        if GATED:
            _fetch((weight + columns * inner + line).to(tl.int64))
    _after(PDL)
    total = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    other = tl.zeros((ROWS, COLUMNS), dtype=tl.float32)
    for start in range(0, inner, INNER):
        inside = start + depth < inner
        a = tl.load(x + row[:, None] * inner + (start + depth)[None, :], mask=here[:, None] & inside[None, :], other=0.0)
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


@cache
def _dependent(device: torch.device) -> bool:
    """Whether kernels may start before the ones ahead of them are done: from Hopper on."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (9, 0)


FETCHED = 24 << 20
"""Bytes of the next weights that a small kernel asks for while it runs: well within the L2 of an H100 or H200 (50 MB), eight microseconds of their memory."""


def share_of(following: Tensor | None, programs: int) -> tuple[int, int]:
    """Lines of 128 bytes of `following` that are fetched, and the share of each of `programs` programs, a power of two; (1, 0) for none."""
    if following is None or not _dependent(following.device):
        return 1, 0
    lines = min(following.numel() * following.element_size(), FETCHED) // 128
    return lines, min(8192, triton.next_power_of_2(triton.cdiv(lines, programs)))


def tile_of(rows: int, columns: int, gated: bool) -> dict[str, Any]:
    """What a program takes: 32 columns make 128 programs of 4,096, one wave of the 132 multiprocessors of an H100."""
    return {"ROWS": max(16, triton.next_power_of_2(rows)), "COLUMNS": 32, "INNER": 64 if gated else 128, "AHEAD": 2048, "num_warps": 4, "num_stages": 5}


def launch_linear(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor | None, gated: bool) -> Tensor:
    """See remask.kernels.layer.linear; without the norm."""
    rows, inner = x.shape
    columns = weight.shape[0] // (2 if gated else 1)
    out = torch.empty(rows, columns, dtype=x.dtype, device=x.device)
    tile, dependent = tile_of(rows, columns, gated), _dependent(x.device)
    if inner < tile["AHEAD"]:
        tile["AHEAD"] = 0
    _linear[(triton.cdiv(columns, tile["COLUMNS"]),)](
        x, weight, bias, residual, out, rows, inner, columns,
        BIAS=bias is not None, RESIDUAL=residual is not None, GATED=gated, WIDE=not x.is_cuda, PDL=dependent, **tile, **({"launch_pdl": True} if dependent else {}),
    )  # fmt: skip
    return out


@triton.jit
def _norm(x, weight, out, following, lines, inner: tl.constexpr, eps, WIDTH: tl.constexpr, SHARE: tl.constexpr, PDL: tl.constexpr):
    """One row by its root mean square, rounded before the weight as the networks do."""
    row, lane = tl.program_id(0).to(tl.int64), tl.arange(0, WIDTH)
    there = lane < inner
    _fetch_share(following, lines, SHARE, row)
    _after(PDL)
    value = tl.load(x + row * inner + lane, mask=there, other=0.0)
    wide = value.to(tl.float32)
    normal = (wide / tl.sqrt(tl.sum(wide * wide, 0) / inner + eps)).to(value.dtype).to(tl.float32)
    tl.store(out + row * inner + lane, normal * tl.load(weight + lane, mask=there, other=0.0).to(tl.float32), mask=there)


def launch_norm(x: Tensor, weight: Tensor, eps: float, following: Tensor | None = None) -> Tensor:
    """(N, D) contiguous -> (N, D). following: weights that are fetched into L2 meanwhile."""
    out, dependent = torch.empty_like(x), _dependent(x.device)
    lines, share = share_of(following, x.shape[0])
    _norm[(x.shape[0],)](
        x, weight, out, following, lines, x.shape[1], eps, WIDTH=triton.next_power_of_2(x.shape[1]), SHARE=share, PDL=dependent, num_warps=8,
        **({"launch_pdl": True} if dependent else {}),
    )  # fmt: skip
    return out


@triton.jit
def _gate(x, out, following, lines, columns: tl.constexpr, WIDTH: tl.constexpr, SHARE: tl.constexpr, PDL: tl.constexpr):
    """SiLU of a row's first half times its second, WIDTH columns a program."""
    row, lane = tl.program_id(0).to(tl.int64), tl.program_id(1) * WIDTH + tl.arange(0, WIDTH)
    there = lane < columns
    _fetch_share(following, lines, SHARE, row * tl.num_programs(1) + tl.program_id(1))
    _after(PDL)
    gate = tl.load(x + row * 2 * columns + lane, mask=there, other=0.0).to(tl.float32)
    up = tl.load(x + row * 2 * columns + columns + lane, mask=there, other=0.0).to(tl.float32)
    tl.store(out + row * columns + lane, gate / (1 + tl.exp(-gate)) * up, mask=there)


def launch_gate(x: Tensor, following: Tensor | None = None) -> Tensor:
    """(N, 2 F) contiguous -> (N, F). following: see launch_norm."""
    rows, columns = x.shape[0], x.shape[1] // 2
    out, dependent, each = torch.empty(rows, columns, dtype=x.dtype, device=x.device), _dependent(x.device), triton.cdiv(columns, 2048)
    lines, share = share_of(following, rows * each)
    _gate[(rows, each)](x, out, following, lines, columns, WIDTH=2048, SHARE=share, PDL=dependent, num_warps=8, **({"launch_pdl": True} if dependent else {}))
    return out


@triton.jit
def _turn(
    mixed, cos, sin, place, query, keys, values, following, lines, chosen, length, heads, key_heads, angle_stride,
    WIDTH: tl.constexpr, HEADS: tl.constexpr, PLACED: tl.constexpr, SHARE: tl.constexpr, PDL: tl.constexpr,
):  # fmt: skip
    """HEADS heads of one position of one row: queries and keys turned, keys and values scattered."""
    at, row = tl.program_id(0), tl.program_id(2).to(tl.int64)
    half: tl.constexpr = WIDTH // 2
    head, lane = (tl.program_id(1) * HEADS + tl.arange(0, HEADS))[:, None], tl.arange(0, half)[None, :]
    there = (head < heads + 2 * key_heads) & (lane < half)
    _fetch_share(following, lines, SHARE, (row * tl.num_programs(1) + tl.program_id(1)) * chosen + at)
    _after(PDL)
    source = mixed + (row * chosen + at) * (heads + 2 * key_heads) * WIDTH + head * WIDTH + lane
    first, second = tl.load(source, mask=there, other=0.0).to(tl.float32), tl.load(source + half, mask=there, other=0.0).to(tl.float32)
    angle = row * angle_stride + at * WIDTH + lane
    c, s, c2, s2 = tl.load(cos + angle), tl.load(sin + angle), tl.load(cos + angle + half), tl.load(sin + angle + half)
    turns = head < heads + key_heads
    turned, turned2 = tl.where(turns, first * c - second * s, first), tl.where(turns, second * c2 + first * s2, second)
    to = at.to(tl.int64)
    if PLACED:
        to = tl.load(place + row * chosen + at)
    target, mine = query + ((row * heads + head) * chosen + at) * WIDTH + lane, there & (head < heads)
    tl.store(target, turned, mask=mine)
    tl.store(target + half, turned2, mask=mine)
    target, mine = keys + ((row * key_heads + head - heads) * length + to) * WIDTH + lane, there & (head >= heads) & turns
    tl.store(target, turned, mask=mine)
    tl.store(target + half, turned2, mask=mine)
    target, mine = values + ((row * key_heads + head - heads - key_heads) * length + to) * WIDTH + lane, there & (head >= heads + key_heads)
    tl.store(target, turned, mask=mine)
    tl.store(target + half, turned2, mask=mine)


def launch_turn(mixed: Tensor, cos: Tensor, sin: Tensor, keys: Tensor, values: Tensor, place: Tensor | None, heads: int, following: Tensor | None = None) -> Tensor:
    """See remask.kernels.layer.turn; returns the queries."""
    rows, chosen, _ = mixed.shape
    key_heads, length, width = keys.shape[1:]
    query, dependent = torch.empty(rows, heads, chosen, width, dtype=mixed.dtype, device=mixed.device), _dependent(mixed.device)
    groups = triton.cdiv(heads + 2 * key_heads, 8)
    lines, share = share_of(following, chosen * groups * rows)
    _turn[(chosen, groups, rows)](
        mixed, cos, sin, place, query, keys, values, following, lines, chosen, length, heads, key_heads, 0 if cos.shape[0] == 1 else chosen * width,
        WIDTH=width, HEADS=8, PLACED=place is not None, SHARE=share, PDL=dependent, num_warps=4, **({"launch_pdl": True} if dependent else {}),
    )  # fmt: skip
    return query
