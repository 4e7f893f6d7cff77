"""Attention of few queries over all keys of a row, written where the next product reads it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from remask.kernels import runs_kernels

FEW = 128
"""Queries of all rows together up to which our kernel is used: a library's is faster for more rows (docs/findings/gpu.md)."""
WIDTHS = (16, 32, 64, 128, 256)
"""Of heads, which a matrix unit takes whole."""


def attend_few(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None) -> Tensor:
    """query (B, H, M, E) over key and value (B, K, L, E), K dividing H, at the scale E ** -0.5 -> (B, M, H * E).

    seen: (B, L) bool, the keys that are read, None for all.
    """
    rows, _, chosen, width = query.shape
    together = key.is_contiguous() and value.is_contiguous()  # those of a pass without a store may be views among the queries
    ours = runs_kernels(query) and rows * chosen <= FEW and width in WIDTHS and query.dtype == torch.bfloat16 and together
    return attend_kernel(query, key, value, seen, parts_for(query, key)) if ours else attend(query, key, value, seen)


def parts_for(query: Tensor, key: Tensor) -> int:
    """In how many parts the keys are read: few heads and queries are few programs, which wait for their keys (12.3 us at 32 heads, 32 queries and 512 keys, 9.9 in four)."""
    rows, heads, chosen, _ = query.shape
    return 4 if rows * heads <= 32 and chosen <= 64 and key.shape[2] >= 256 else 1


def attend(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None) -> Tensor:
    """The same by torch, with a `seen` that may be of each query as well: (B, L) or (B, M, L)."""
    mask = None if seen is None else seen.view(seen.shape[0], 1, -1, seen.shape[-1])
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=query.shape[1] != key.shape[1])
    return mixed.transpose(1, 2).flatten(2)


def attend_kernel(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None, parts: int = 1) -> Tensor:
    """The same by Triton in one launch, sums in float32. Keys, values and `seen` are contiguous; queries are, as (B, H, M, E) or as (B, M, H, E) transposed.

    parts: 2, 4 or 8 give each share of the keys programs of its own, and a second launch joins them.
    """
    from remask.kernels.attention_triton import launch_attend

    return launch_attend(query, key, value, seen, {"PARTS": parts, "num_stages": 3 if parts == 1 else 2})


def reads_rows(query: Tensor, heads: int, key_heads: int, width: int) -> bool:
    """Whether `attend_rows` takes heads of `width` numbers of such a tensor: all on the CPU, on a GPU what the library's kernel does, which wants one of compute capability 8."""
    if not query.is_cuda:
        return True
    taken = query.dtype in (torch.bfloat16, torch.float16) and heads == key_heads and width % 8 == 0 and width <= 256
    return taken and torch.cuda.get_device_capability(query.device) >= (8, 0)


def attend_rows(query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int) -> Tensor:
    """query (T, H, E) over key and value (T, K, E), of rows that lie behind one another and do not see each other, at the scale E ** -0.5 -> (T, H * E).

    ends: (B + 1,) int32, where each row begins, and T.  longest: no row has more positions.
    """
    return (rows_library if query.is_cuda else rows_twin)(query, key, value, ends, longest)


def rows_twin(query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int) -> Tensor:
    """The same a row at a time."""
    sizes = ends.diff().tolist()
    queries, keys, values = (part.transpose(0, 1)[None].split(sizes, 2) for part in (query, key, value))
    return torch.cat([attend(*row, None)[0] for row in zip(queries, keys, values, strict=True)])


def rows_library(query: Tensor, key: Tensor, value: Tensor, ends: Tensor, longest: int) -> Tensor:
    """The same by the library's FlashAttention."""
    from torch.nn.attention.varlen import varlen_attn

    mixed = varlen_attn(query, key, value, ends, ends, longest, longest)
    assert isinstance(mixed, Tensor)
    return mixed.flatten(1)
