"""Orders that position decides, alone or with confidence: PC-Sampler (arXiv 2508.13021) and Halton (arXiv 2503.17076)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from remask.canvas import Canvas, Edit
from remask.decoders.base import Decoder, View
from remask.decoders.pace import write_best
from remask.errors import RemaskError
from remask.schedules import BlockClock, check_steps


def places(canvas: Canvas) -> Tensor:
    """(B, L) int64: positions counted from the first one of the row that was not given."""
    position = torch.arange(canvas.shape[1], device=canvas.tokens.device)
    return position - (~canvas.given).long().argmax(1, keepdim=True)


@dataclass(frozen=True)
class PC(Decoder):
    """Score exp(-lam * place) * min(-p(x) log background(x), alpha), the place counted from the first unknown position.

    lam: 0 for Sudoku, 0.5 for Countdown in the paper. The background law of tokens is uniform here, which makes its
    logarithm one factor for all; with lam = 0 the order is then that of confidence.
    """

    lam: float = 0.25
    alpha: float = 10.0
    steps: int | None = None
    mask_candidates: bool = False

    def __post_init__(self) -> None:
        check_steps(self.steps)
        if not (self.lam >= 0 and self.alpha > 0):
            raise RemaskError(f"lam={self.lam}, alpha={self.alpha}: lam must be 0 or more, alpha more than 0")

    def init(self, canvas: Canvas) -> BlockClock:
        return BlockClock.start(canvas, self.steps)

    def step(self, view: View, state: BlockClock) -> tuple[Edit, BlockClock]:
        belief = view.prediction.raw
        surprise = torch.log(torch.tensor(belief.logits.shape[-1] - 1.0))
        value = (belief.confidence.double() * surprise).clamp(max=self.alpha).log() - self.lam * places(view.canvas)
        return write_best(view, value, state, self.steps)


@dataclass(frozen=True)
class Halton(Decoder):
    """Positions in the order of van der Corput's sequence in `base`: each falls into the widest gap. Confidence plays no part."""

    base: int = 2
    steps: int | None = None
    mask_candidates: bool = False

    def __post_init__(self) -> None:
        check_steps(self.steps)
        if self.base < 2:
            raise RemaskError(f"base is {self.base}; it must be 2 or more")

    def init(self, canvas: Canvas) -> BlockClock:
        return BlockClock.start(canvas, self.steps)

    def step(self, view: View, state: BlockClock) -> tuple[Edit, BlockClock]:
        return write_best(view, -self.corput(places(view.canvas), view.span), state, self.steps)

    def corput(self, place: Tensor, span: Tensor) -> Tensor:
        """(B, L) float64 rank: places, as digits over the smallest power of `base` that holds the open block, reversed."""
        start = torch.where(span, place, place.shape[1]).amin(1, keepdim=True)
        slot = (place - start).clamp(min=0)
        rank, weight = torch.zeros(place.shape, dtype=torch.float64, device=place.device), 1.0
        for _ in range(place.shape[1].bit_length()):
            weight /= self.base
            rank = rank + (slot % self.base) * weight
            slot = slot // self.base
        return rank
