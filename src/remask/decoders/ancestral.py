"""MDLM's ancestral sampler (arXiv 2406.07524); with `reuse=unchanged` it is the cached one (`ddpm_cache`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.canvas import Canvas, Edit
from remask.citation import MDLM, Paper
from remask.decoders.base import Decoder, View
from remask.errors import RemaskError
from remask.randomness import TRANSFER


@dataclass(frozen=True)
class Ancestral(Decoder):
    """A masked position is written with probability (t - s)/t on linspace(1, 1e-5, steps + 1).

    What is left after the last step takes the arg max in one more forward ("noise removal").
    """

    everywhere: ClassVar[bool] = False
    steps: int = 128
    draws: ClassVar[bool] = True
    papers: ClassVar[tuple[Paper, ...]] = (MDLM,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise RemaskError(f"steps is {self.steps}; it must be 1 or more")

    def init(self, canvas: Canvas) -> Tensor:
        """(B,) int64: steps made."""
        return torch.zeros(canvas.shape[0], dtype=torch.int64, device=canvas.tokens.device)

    def step(self, view: View, state: Tensor) -> tuple[Edit, Tensor]:
        width = (1 - 1e-5) / self.steps
        t = 1 - state.double() * width
        last = (state >= self.steps)[:, None]
        write = view.eligible & (last | (view.uniforms(TRANSFER) < (width / t)[:, None]))
        tokens = torch.where(last, view.prediction.shaped.token, view.prediction.candidates)
        return Edit(write, tokens), state + 1
