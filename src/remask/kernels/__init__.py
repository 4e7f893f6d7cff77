"""Triton kernels, each beside a plain torch twin that says what it computes. On a GPU the kernel runs, elsewhere the twin."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

from torch import Tensor


@cache
def has_triton() -> bool:
    """Whether Triton is installed; importing it is left to the first kernel."""
    return find_spec("triton") is not None


def runs_kernels(x: Tensor) -> bool:
    """Whether a function here launches its kernel for this tensor, or calls its twin."""
    return x.is_cuda and has_triton()
