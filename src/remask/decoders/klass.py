"""KLASS (arXiv 2511.05664): write what is confident and whose distribution has stopped moving."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import torch
from torch import Tensor

from remask.canvas import Canvas, Edit
from remask.citation import Paper
from remask.decoders.base import Decoder, View
from remask.decoders.select import longest_prefix
from remask.errors import RemaskError

PAPER = Paper("KLASS: KL-Guided Fast Inference in Masked Diffusion Models", "2511.05664", 2025)


@dataclass(frozen=True, eq=False)
class Stability:
    """previous: (B, L, V) probabilities of the step before, or None.  calm: (B, L) int64, steps in a row with little movement."""

    previous: Tensor | None
    calm: Tensor


@dataclass(frozen=True)
class Klass(Decoder):
    """Confidence above `tau`, and KL(now || before) below `eps` in each of the last `history` steps; if none, the best.

    Keeps one distribution per position; before the first one it counts as uniform.
    """

    tau: float = 0.9
    eps: float = 0.01
    history: int = 2
    mask_candidates: bool = False
    papers: ClassVar[tuple[Paper, ...]] = (PAPER,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.history < 1:
            raise RemaskError(f"history is {self.history}; it must be 1 or more")

    def init(self, canvas: Canvas) -> Stability:
        return Stability(None, torch.zeros_like(canvas.tokens))

    def step(self, view: View, state: Stability) -> tuple[Edit, Stability]:
        now = view.prediction.raw.probabilities
        before = torch.zeros_like(now) if state.previous is None else state.previous
        before = torch.where(before.any(-1, keepdim=True), before, 1 / now.shape[-1])
        moved = (torch.special.xlogy(now, now) - torch.special.xlogy(now, before)).sum(-1)
        state = replace(state, previous=now, calm=torch.where(moved < self.eps, state.calm + 1, 0))
        confidence = view.prediction.raw.confidence
        ready = (state.calm >= self.history) & (confidence > self.tau)
        write = longest_prefix(confidence + ready, view.eligible, lambda falling: falling > 1)
        return Edit(write, view.prediction.candidates), state
