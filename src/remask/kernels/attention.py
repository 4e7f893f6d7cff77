"""Attention of few queries over all keys of a row, written where the next product reads it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from remask.kernels import runs_kernels

FEW = 128
"""Queries of a row up to which our kernel is used; a library's takes more of them at a time."""


def attend_few(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None) -> Tensor:
    """query (B, H, M, E) over key and value (B, K, L, E), K dividing H, at the scale E ** -0.5 -> (B, M, H * E).

    seen: (B, L) bool, the keys that are read, None for all.
    """
    if runs_kernels(query) and query.shape[2] <= FEW and query.dtype == torch.bfloat16:
        return attend_kernel(query, key, value, seen)
    return attend_twin(query, key, value, seen)


def attend_twin(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None) -> Tensor:
    """The same by torch."""
    mask = None if seen is None else seen[:, None, None]
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask, enable_gqa=query.shape[1] != key.shape[1])
    return mixed.transpose(1, 2).flatten(2)


def attend_kernel(query: Tensor, key: Tensor, value: Tensor, seen: Tensor | None) -> Tensor:
    """The same by Triton in one launch, sums in float32; all four contiguous."""
    from remask.kernels.attention_triton import launch_attend

    return launch_attend(query, key, value, seen)
