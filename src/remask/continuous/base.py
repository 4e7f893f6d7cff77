"""What a network must offer to be decoded in its continuous state."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from remask.canvas import Canvas
from remask.channel import endpoints
from remask.models.base import Denoiser
from remask.randomness import NOISE, Uniforms
from remask.shapers import Shaper


class StateDenoiser(Denoiser, Protocol):
    """A denoiser that reads states of the localisation channel (remask.channel) too, for any SNRs and without being told them.

    snr_max: the SNR that stands for a known token.
    """

    snr_max: float

    @property
    def codes(self) -> Tensor:
        """(V, E), rows of norm 1; no row for the mask."""
        ...

    def read(self, z: Tensor, real: Tensor | None = None) -> Tensor:
        """(B, L, E) -> (B, L, V) logits over the tokens, the mask aside."""
        ...


def state_of(model: StateDenoiser, canvas: Canvas) -> Tensor:
    """(B, L, E) float64: the noiseless state of a canvas; masks and padding are 0."""
    known = (canvas.tokens != canvas.mask_id) & canvas.real
    return endpoints(model.codes.double(), canvas.tokens, known, model.snr_max)


def keyed_normals(uniforms: Uniforms, seeds: Tensor, step: int, shape: torch.Size) -> Tensor:
    """(B, L, E) float64 standard normals, functions of (row seed, step, position)."""
    rows, length, width = shape
    number = torch.full_like(seeds, step)
    return torch.special.ndtri(uniforms(seeds, number, length * width, NOISE)).view(rows, length, width)


def belief(logits: Tensor, shapers: Sequence[Shaper]) -> Tensor:
    """(B, L, V) float64 probabilities after the shapers: sharper ones sharpen the walk, as they do a discrete decoder's draws."""
    for shaper in shapers:
        logits = shaper(logits)
    return torch.softmax(logits.double(), dim=-1)
