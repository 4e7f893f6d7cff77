"""A threshold that is strict while others wait and lenient when it ends the row: ours, of no paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.canvas import Canvas, Edit
from remask.decoders.base import Decoder, View
from remask.decoders.select import ranked, unranked
from remask.errors import RemaskError


@dataclass(frozen=True)
class Risk(Decoder):
    """Write the most positions, best first, for which (1 - confidence of the worst)(1 + positions left waiting)^waiting <= budget, at least the best.

    A position that waits is seen again with more written around it. That is free while others wait too, since the next forward comes anyway, and
    costs a forward if it is the only one: so the risk that is taken grows as the eligible positions run out. n of the ranking may pass where fewer do not.

    budget: the largest risk of the pass that leaves nothing waiting.  waiting: 0 is the static threshold 1 - budget; larger is stricter before the last pass.
    `factor` divides its budget by the number that is written, `entropy_bound` bounds a sum over it; neither looks at what is left.
    """

    everywhere: ClassVar[bool] = False
    budget: float = 0.1
    waiting: float = 1.0
    mask_candidates: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.budget <= 1:
            raise RemaskError(f"budget is {self.budget}; it is a probability, from 0 to 1")
        if not 0 <= self.waiting < float("inf"):
            raise RemaskError(f"waiting is {self.waiting}; it must be a number from 0 up")

    def init(self, canvas: Canvas) -> None:
        return None

    def step(self, view: View, state: None) -> tuple[Edit, None]:
        falling, order = ranked(view.prediction.raw.confidence, view.eligible)
        count = self.count(falling, view.eligible.sum(1, keepdim=True))
        rank = torch.arange(falling.shape[1], device=falling.device)
        return Edit(unranked(rank < count, order, view.eligible), view.prediction.candidates), None

    def count(self, falling: Tensor, eligible: Tensor) -> Tensor:
        """(B, 1) how many are written, 1 or more: falling (B, L) confidences, of which the first `eligible` (B, 1) count."""
        number = torch.arange(1, falling.shape[1] + 1, device=falling.device)
        left = (eligible - number).clamp(min=0).double()
        passes = ((1 - falling) * (1 + left) ** self.waiting <= self.budget) & (number <= eligible)
        return (passes * number).amax(1, keepdim=True).clamp(min=1)
