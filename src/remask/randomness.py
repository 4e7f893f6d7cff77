"""Uniforms that are functions of (row seed, step, position, stream), and draws made from them.

A row then gives the same tokens alone, in a batch, with or without reuse, and on resume.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

PROPOSAL, ORDER, TRANSFER, REVISE, NOISE = range(5)
"""Streams: candidate tokens, the order of writing, which positions write, which are masked again, Gaussian noise of continuous states."""


class Uniforms(Protocol):
    """A source of uniforms in (0, 1): keyed for real use, recorded for parity with references."""

    def __call__(self, seeds: Tensor, step: Tensor, length: int, stream: int) -> Tensor:
        """seeds, step: (B,) int64 -> (B, length) float64."""
        ...


def _mix(x: Tensor) -> Tensor:
    """The splitmix64 finaliser (Steele, Lea and Flood, 2014) on wrapping int64."""
    x = (x ^ _shift(x, 30)) * -4658895280553007687
    x = (x ^ _shift(x, 27)) * -7723592293110705685
    return x ^ _shift(x, 31)


def _shift(x: Tensor, bits: int) -> Tensor:
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def keyed_uniforms(seeds: Tensor, step: Tensor, length: int, stream: int) -> Tensor:
    """(B, length) float64 uniforms in (0, 1), 53 random bits each, the same for the same key everywhere."""
    golden = -7046029254386353131
    key = _mix(_mix(_mix(seeds + golden) + step) + stream + golden)
    position = torch.arange(length, device=seeds.device, dtype=torch.int64)
    bits = _shift(_mix(_mix(key[:, None] + position * golden) + golden), 11)
    return (bits.double() + 0.5) * 2.0**-53


def draw(logits: Tensor, uniform: Tensor) -> Tensor:
    """One category per position by inverse CDF in float64.

    logits: (..., V).  uniform: (...).  Returns (...) int64.
    Why not Gumbel noise in float32: it cuts off rare tokens (specs: a hidden low temperature, arXiv 2409.02908).
    """
    cumulative = torch.softmax(logits.double(), dim=-1).cumsum(-1)
    target = uniform.double()[..., None] * cumulative[..., -1:]
    drawn = torch.searchsorted(cumulative, target, right=True)[..., 0]
    return drawn.clamp(max=logits.shape[-1] - 1)


def llada_gumbel(logits: Tensor, uniform: Tensor, temperature: float) -> Tensor:
    """LLaDA's `exp(logits) / (-log u)^T` in float64 from given (..., V) uniforms (generate.py; parity only)."""
    if temperature == 0:
        return logits
    return logits.double().exp() / (-uniform.double().log()) ** temperature
