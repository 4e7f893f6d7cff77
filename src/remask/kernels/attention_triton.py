"""The kernel of remask.kernels.attention."""

# pyright: reportCallIssue=false, reportArgumentType=false, reportMissingImports=false, reportAttributeAccessIssue=false, reportOperatorIssue=false
from __future__ import annotations

from math import e as NATURAL
from math import log2
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

LOWEST = -1e30
"""A score that no key has: what it adds to a sum is wiped out by the first key that is read."""


KEYS = 64
"""Keys at a time."""


@triton.jit
def _attend(
    query, keys, values, seen, out, most_of, weight_of, chosen, length, heads, key_heads, head_stride, position_stride, scale, WIDTH: tl.constexpr, QUERIES: tl.constexpr,
    KEYS: tl.constexpr, SEEN: tl.constexpr, WIDE: tl.constexpr, LOW: tl.constexpr, BLOCKS: tl.constexpr, PARTS: tl.constexpr,
):  # fmt: skip
    """QUERIES queries of one head of one row, KEYS keys at a time with a running maximum (online softmax, base 2), BLOCKS times. WIDE: see remask.kernels.layer_triton.

    PARTS: of the keys, each with programs of its own; above 1 every part leaves its sums, and the maximum and the weight that they are relative to.
    """
    at, head, row, part = tl.program_id(0) * QUERIES + tl.arange(0, QUERIES), tl.program_id(1), (tl.program_id(2) // PARTS).to(tl.int64), tl.program_id(2) % PARTS
    lane, near = tl.arange(0, WIDTH), tl.arange(0, KEYS)
    here = at < chosen
    q = tl.load(query + row * heads * chosen * WIDTH + head * head_stride + at[:, None] * position_stride + lane[None, :], mask=here[:, None], other=0.0)
    if WIDE:
        q = q.to(tl.float32)
    stored = (row * key_heads + head // (heads // key_heads)) * length * WIDTH
    most = tl.full((QUERIES,), LOW, dtype=tl.float32)
    weight = tl.zeros((QUERIES,), dtype=tl.float32)
    total = tl.zeros((QUERIES, WIDTH), dtype=tl.float32)
    for block in range(BLOCKS):
        place = (part * BLOCKS + block) * KEYS + near
        read = place < length
        k = tl.load(keys + stored + place[None, :] * WIDTH + lane[:, None], mask=read[None, :], other=0.0)
        v = tl.load(values + stored + place[:, None] * WIDTH + lane[None, :], mask=read[:, None], other=0.0)
        if SEEN:
            read = read & (tl.load(seen + row * length + place, mask=read, other=0) != 0)
        if WIDE:
            k, v = k.to(tl.float32), v.to(tl.float32)
        score = tl.where(read[None, :], tl.dot(q, k, input_precision="ieee") * scale, LOW)
        higher = tl.maximum(most, tl.max(score, 1))
        share, fade = tl.exp2(score - higher[:, None]), tl.exp2(most - higher)
        weight = weight * fade + tl.sum(share, 1)
        total = tl.dot(share.to(v.dtype), v, total * fade[:, None], input_precision="ieee")
        most = higher
    place = (row * chosen + at) * heads + head
    if PARTS == 1:
        tl.store(out + place[:, None] * WIDTH + lane[None, :], total / weight[:, None], mask=here[:, None])
    else:
        place = place * PARTS + part
        tl.store(out + place[:, None] * WIDTH + lane[None, :], total, mask=here[:, None])
        tl.store(most_of + place, most, mask=here)
        tl.store(weight_of + place, weight, mask=here)


@triton.jit
def _merge(total, most, weight, out, WIDTH: tl.constexpr, PARTS: tl.constexpr):
    """The parts of one head of one query; one that read no key has a maximum of LOWEST, and counts for nothing beside one that did."""
    place, part, lane = tl.program_id(0).to(tl.int64), tl.arange(0, PARTS), tl.arange(0, WIDTH)
    high = tl.load(most + place * PARTS + part)
    share = tl.exp2(high - tl.max(high, 0))
    whole = tl.sum(share * tl.load(weight + place * PARTS + part), 0)
    mixed = tl.sum(share[:, None] * tl.load(total + (place * PARTS + part)[:, None] * WIDTH + lane[None, :]), 0)
    tl.store(out + place * WIDTH + lane, mixed / whole)


def launch_attend(query: Tensor, keys: Tensor, values: Tensor, seen: Tensor | None, tile: dict[str, Any] | None = None) -> Tensor:
    """See remask.kernels.attention.attend_few."""
    rows, heads, chosen, width = query.shape
    key_heads, length = keys.shape[1:3]
    out = torch.empty(rows, chosen, heads * width, dtype=query.dtype, device=query.device)
    queries = min(64, max(16, triton.next_power_of_2(chosen)))
    tile = {"KEYS": KEYS, "PARTS": 1, "num_warps": 4, "num_stages": 3, **(tile or {})}
    parts = tile["PARTS"]
    made, most, weight = out, out, out
    if parts > 1:
        made = torch.empty(rows * chosen * heads, parts, width, dtype=torch.float32, device=query.device)
        most, weight = torch.empty(2, rows * chosen * heads, parts, dtype=torch.float32, device=query.device)
    _attend[(triton.cdiv(chosen, queries), heads, rows * parts)](
        query, keys, values, seen, made, most, weight, chosen, length, heads, key_heads, query.stride(1), query.stride(2), log2(NATURAL) * width**-0.5,
        WIDTH=width, QUERIES=queries, SEEN=seen is not None, WIDE=not query.is_cuda, LOW=LOWEST, BLOCKS=triton.cdiv(length, tile["KEYS"] * parts), **tile,
    )  # fmt: skip
    if parts > 1:
        _merge[(rows * chosen * heads,)](made, most, weight, out, WIDTH=width, PARTS=parts, num_warps=1)
    return out
