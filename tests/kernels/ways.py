"""The ways to compute what a kernel computes: its twin, the kernel through Triton's interpreter (on the CPU), and the kernel on a GPU."""

import pytest
import torch

from remask.kernels import has_triton

CUDA = torch.cuda.is_available()
WAYS = [
    "twin",
    pytest.param("kernel", marks=pytest.mark.skipif(CUDA or not has_triton(), reason="needs Triton and no GPU: the interpreter runs kernels on the CPU")),
    pytest.param("gpu", marks=[pytest.mark.gpu, pytest.mark.skipif(not CUDA or not has_triton(), reason="needs a GPU and Triton")]),
]


def on(way, value):
    """A tensor where the way wants it."""
    return value.cuda() if way == "gpu" and isinstance(value, torch.Tensor) else value
