"""Elementwise work over a list of tensors in a few kernels instead of one per tensor."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

_torch: Any = torch


def lerp_(starts: Sequence[Tensor], ends: Sequence[Tensor], weight: float) -> None:
    """starts += weight * (ends - starts)."""
    _torch._foreach_lerp_(list(starts), list(ends), weight)


def mul_(tensors: Sequence[Tensor], factor: float | Tensor) -> None:
    """tensors *= factor, a number or a tensor of no dimension."""
    _torch._foreach_mul_(list(tensors), factor)


def add_(tensors: Sequence[Tensor], others: Sequence[Tensor]) -> None:
    """tensors += others."""
    _torch._foreach_add_(list(tensors), list(others))


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """The Euclidean norm of all of them together, a tensor of no dimension."""
    return torch.stack(_torch._foreach_norm(list(tensors))).norm()
