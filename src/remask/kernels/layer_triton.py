"""The layer's kernels: matrix products for few rows that stream their weights once, with all that stands behind them; norm, gate, and rotation with the scatter.

Few rows are bound by reading weights; what is left beside that are the gaps between launches. Starting kernels early (programmatic dependent launch) and fetching the
next weights into L2 meanwhile were tried and are slower or no faster (docs/findings/gpu.md).
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
def _product(
    x, weight, row, column, rows, columns, inner: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, WIDE: tl.constexpr, TURNED: tl.constexpr,
):  # fmt: skip
    """x (rows, inner) times the `column`s of weight (columns, inner), INNER of the inner dimension at a time: (ROWS, COLUMNS) float32.

    WIDE: for the interpreter, whose product takes the bits of a bfloat16 for an integer.
    TURNED: as weight times x, whose 64 columns or more a Hopper's matrix unit reads once from shared memory, where each warp would read all of x.
    """
    depth = tl.arange(0, INNER)
    total = tl.zeros((COLUMNS, ROWS) if TURNED else (ROWS, COLUMNS), dtype=tl.float32)
    for start in range(0, inner, INNER):
        at = start + depth
        inside = at < inner
        a = tl.load(x + row[:, None] * inner + at[None, :], mask=(row < rows)[:, None] & inside[None, :], other=0.0)
        tile = column.to(tl.int64)[:, None] * inner + at[None, :]
        w = tl.load(weight + tile, mask=(column < columns)[:, None] & inside[None, :], other=0.0, eviction_policy="evict_first")
        if WIDE:
            a, w = a.to(tl.float32), w.to(tl.float32)
        if TURNED:
            total = tl.dot(w, tl.trans(a), total, input_precision="ieee")
        else:
            total = tl.dot(a, tl.trans(w), total, input_precision="ieee")
    return tl.trans(total) if TURNED else total


@triton.jit
def _squares(squares, row, rows, PIECES: tl.constexpr, WIDTH: tl.constexpr):
    """(ROWS, WIDTH), the PIECES of each row's sum of squares, read before a product and added up behind it, so that nobody waits for them."""
    piece = tl.arange(0, WIDTH)
    return tl.load(squares + row[:, None] * PIECES + piece[None, :], mask=(row < rows)[:, None] & (piece < PIECES)[None, :], other=0.0)


@triton.jit
def _halves(total, ROWS: tl.constexpr, COLUMNS: tl.constexpr):
    """(ROWS, 2 COLUMNS) -> the first and the second COLUMNS."""
    return tl.split(tl.permute(tl.reshape(total, (ROWS, 2, COLUMNS)), (0, 2, 1)))


@triton.jit
def _linear(
    x, weight, bias, squares, out, rows, eps, inner: tl.constexpr, columns: tl.constexpr,
    BIAS: tl.constexpr, PIECES: tl.constexpr, WIDTH_OF_PIECES: tl.constexpr, GATED: tl.constexpr, WIDE: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, TURNED: tl.constexpr,
):  # fmt: skip
    """All rows times COLUMNS columns; gated: times COLUMNS gates and the COLUMNS that they gate, side by side in one product."""
    SIDES: tl.constexpr = 2 if GATED else 1  # pyright: ignore[reportAssignmentType]
    row, side = tl.arange(0, ROWS), tl.arange(0, SIDES * COLUMNS)
    own = tl.program_id(0) * COLUMNS + side % COLUMNS
    column = tl.where(own < columns, own + side // COLUMNS * columns, SIDES * columns)
    if PIECES:
        pieces = _squares(squares, row, rows, PIECES, WIDTH_OF_PIECES)
    total = _product(x, weight, row, column, rows, SIDES * columns, inner, ROWS, SIDES * COLUMNS, INNER, WIDE, TURNED)
    if PIECES:
        total /= tl.sqrt(tl.sum(pieces, 1) / inner + eps)[:, None]
    if BIAS:
        total += tl.load(bias + column, mask=own < columns, other=0.0).to(tl.float32)[None, :]
    if GATED:
        gate, up = _halves(total, ROWS, COLUMNS)
        total = gate / (1 + tl.exp(-gate)) * up
    column = tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    tl.store(out + row[:, None] * columns + column[None, :], total, mask=(row < rows)[:, None] & (column < columns)[None, :])


@triton.jit
def _added(
    x, weight, bias, residual, norm, out, ahead, squares, rows, inner: tl.constexpr, columns: tl.constexpr,
    BIAS: tl.constexpr, WIDE: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, TURNED: tl.constexpr,
):  # fmt: skip
    """COLUMNS columns of all rows with the residual added; that times the next norm's weight, and each row's squares over these columns (see Normal in remask.kernels.layer)."""
    row, column = tl.arange(0, ROWS), tl.program_id(0) * COLUMNS + tl.arange(0, COLUMNS)
    total = _product(x, weight, row, column, rows, columns, inner, ROWS, COLUMNS, INNER, WIDE, TURNED)
    there = column < columns
    place, inside = row[:, None] * columns + column[None, :], (row < rows)[:, None] & there[None, :]
    if BIAS:
        total += tl.load(bias + column, mask=there, other=0.0).to(tl.float32)[None, :]
    before = tl.load(residual + place, mask=inside, other=0.0)
    value = (total + before.to(tl.float32)).to(before.dtype)
    tl.store(out + place, value, mask=inside)
    wide = value.to(tl.float32)
    tl.store(squares + row * tl.num_programs(0) + tl.program_id(0), tl.sum(wide * wide, 1), mask=row < rows)
    tl.store(ahead + place, wide * tl.load(norm + column, mask=there, other=0.0).to(tl.float32)[None, :], mask=inside)


@triton.jit
def _mix(
    x, weight, bias, squares, cos, sin, place, query, keys, values, rows, eps, chosen, length, heads, key_heads, angle_stride, inner: tl.constexpr,
    BIAS: tl.constexpr, PIECES: tl.constexpr, WIDTH_OF_PIECES: tl.constexpr, PLACED: tl.constexpr, WIDE: tl.constexpr,
    WIDTH: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, INNER: tl.constexpr, TURNED: tl.constexpr,
):  # fmt: skip
    """COLUMNS lanes of one head and those half a head further, of all positions: queries and keys turned, keys and values scattered."""
    half: tl.constexpr = WIDTH // 2
    row, side = tl.arange(0, ROWS), tl.arange(0, 2 * COLUMNS)
    head, from_lane = tl.program_id(0) // (half // COLUMNS), tl.program_id(0) % (half // COLUMNS) * COLUMNS
    column = head * WIDTH + from_lane + side % COLUMNS + side // COLUMNS * half
    if PIECES:
        pieces = _squares(squares, row, rows, PIECES, WIDTH_OF_PIECES)
    total = _product(x, weight, row, column, rows, (heads + 2 * key_heads) * WIDTH, inner, ROWS, 2 * COLUMNS, INNER, WIDE, TURNED)
    if PIECES:
        total /= tl.sqrt(tl.sum(pieces, 1) / inner + eps)[:, None]
    if BIAS:
        total += tl.load(bias + column).to(tl.float32)[None, :]
    first, second = _halves(total, ROWS, COLUMNS)
    lane, here, at = from_lane + tl.arange(0, COLUMNS)[None, :], (row < rows)[:, None], row % chosen
    canvas = (row // chosen).to(tl.int64)
    if head < heads + key_heads:
        angle = (canvas * angle_stride + at * WIDTH)[:, None] + lane
        c, s = tl.load(cos + angle, mask=here, other=0.0), tl.load(sin + angle, mask=here, other=0.0)
        c2, s2 = tl.load(cos + angle + half, mask=here, other=0.0), tl.load(sin + angle + half, mask=here, other=0.0)
        first, second = first * c - second * s, second * c2 + first * s2
    to = at.to(tl.int64)
    if PLACED:
        to = tl.load(place + row, mask=row < rows, other=0)
    if head < heads:
        target = query + ((row * heads + head) * WIDTH)[:, None] + lane
        tl.store(target, first, mask=here)
        tl.store(target + half, second, mask=here)
    elif head < heads + key_heads:
        target = keys + (((canvas * key_heads + head - heads) * length + to) * WIDTH)[:, None] + lane
        tl.store(target, first, mask=here)
        tl.store(target + half, second, mask=here)
    else:
        target = values + (((canvas * key_heads + head - heads - key_heads) * length + to) * WIDTH)[:, None] + lane
        tl.store(target, first, mask=here)
        tl.store(target + half, second, mask=here)


TILES = {"linear": (32, 128, 4, 4, False), "gate": (32, 128, 4, 3, True), "mix": (32, 128, 4, 4, True), "add": (32, 256, 2, 6, False)}
"""Columns, inner numbers, warps and stages of a program, and whether the product is turned, up to 32 rows."""
LARGER_TILES = {"linear": (32, 128, 4, 4, False), "gate": (32, 64, 4, 4, False), "mix": (32, 128, 4, 3, False), "add": (32, 128, 4, 8, False)}
"""The same beyond."""


@cache
def room_of(device: torch.device) -> tuple[int, int]:
    """Multiprocessors, and the bytes of shared memory that a program may take of one; those of an H200 for the interpreter."""
    if device.type != "cuda":
        return 132, 232_448
    about = torch.cuda.get_device_properties(device)
    return about.multi_processor_count, about.shared_memory_per_block_optin


def tile_of(kind: str, x: Tensor, columns: int) -> dict[str, Any]:
    """What a program of a product of x takes: the fastest of benchmarks/step.py --tiles on an H200, in bfloat16; as many bytes of wider numbers.

    kind: linear, gate, add or mix, of `columns` in all. Up to 32 rows the 384 programs of a gate of 24,576 columns are three a multiprocessor and all run at once; an addition's
    128 have one each. A mix of fewer columns (Dream's) is cut finer; a card with less shared memory keeps fewer stages in flight.
    """
    rows, (processors, memory) = x.shape[0], room_of(x.device)
    own, inner, warps, stages, turned = (TILES if rows <= 32 else LARGER_TILES)[kind]
    if kind == "mix" and columns < 2 * own * processors:
        own, turned = own // 2, False
    inner, taken = inner * 2 // x.element_size(), max(16, int(triton.next_power_of_2(rows)))
    stage = (taken + own * (2 if kind in ("gate", "mix") else 1)) * inner * x.element_size()
    return {"ROWS": taken, "COLUMNS": own, "INNER": inner, "TURNED": turned, "num_warps": warps, "num_stages": max(1, min(stages, memory // stage))}


def _pieces(squares: Tensor | None) -> dict[str, int]:
    """How the kernels are told of a row's squares."""
    pieces = 0 if squares is None else squares.shape[1]
    return {"PIECES": pieces, "WIDTH_OF_PIECES": 1 if squares is None else int(triton.next_power_of_2(pieces))}


def launch_linear(x: Tensor, weight: Tensor, bias: Tensor | None, squares: Tensor | None, eps: float, gated: bool, tile: dict[str, Any] | None = None) -> Tensor:
    """See remask.kernels.layer.linear."""
    rows, inner = x.shape
    columns = weight.shape[0] // (2 if gated else 1)
    out = torch.empty(rows, columns, dtype=x.dtype, device=x.device)
    tile = tile or tile_of("gate" if gated else "linear", x, weight.shape[0])
    _linear[(triton.cdiv(columns, tile["COLUMNS"]),)](
        x, weight, bias, squares, out, rows, eps, inner, columns, BIAS=bias is not None, **_pieces(squares), GATED=gated, WIDE=not x.is_cuda, **tile,
    )  # fmt: skip
    return out


def launch_add(x: Tensor, weight: Tensor, bias: Tensor | None, residual: Tensor, norm: Tensor, tile: dict[str, Any] | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The sum (N, O), that times norm (N, O), and what the squares of its rows add up from, (N, P) float32: see remask.kernels.layer.added."""
    rows, inner = x.shape
    columns = weight.shape[0]
    tile = tile or tile_of("add", x, columns)
    programs = triton.cdiv(columns, tile["COLUMNS"])
    out, ahead = torch.empty(2, rows, columns, dtype=residual.dtype, device=x.device)
    squares = torch.empty(rows, programs, dtype=torch.float32, device=x.device)
    _added[(programs,)](x, weight, bias, residual, norm, out, ahead, squares, rows, inner, columns, BIAS=bias is not None, WIDE=not x.is_cuda, **tile)
    return out, ahead, squares


def launch_mix(
    x: Tensor, weight: Tensor, bias: Tensor | None, squares: Tensor | None, eps: float, cos: Tensor, sin: Tensor, keys: Tensor, values: Tensor, place: Tensor | None,
    shape: tuple[int, int], tile: dict[str, Any] | None = None,
) -> Tensor:  # fmt: skip
    """Keys and values into their stores, the queries returned, (B, H, M, E) as by `launch_turn`: see remask.kernels.layer.mix. shape: (B, M)."""
    rows, inner = x.shape
    key_heads, length, width = keys.shape[1:]
    heads = weight.shape[0] // width - 2 * key_heads
    query = torch.empty(*shape, heads, width, dtype=x.dtype, device=x.device)
    tile = tile or tile_of("mix", x, weight.shape[0])
    tile = tile | {"COLUMNS": min(tile["COLUMNS"], width // 2)}
    _mix[((heads + 2 * key_heads) * (width // 2 // tile["COLUMNS"]),)](
        x, weight, bias, squares, cos, sin, place, query, keys, values, rows, eps, shape[1], length, heads, key_heads, 0 if cos.shape[0] == 1 else shape[1] * width, inner,
        BIAS=bias is not None, **_pieces(squares), PLACED=place is not None, WIDE=not x.is_cuda, WIDTH=width, **tile,
    )  # fmt: skip
    return query.transpose(1, 2)


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
