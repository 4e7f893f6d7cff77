"""A threshold that is strict while others wait and lenient where it ends the row: ours, of no paper."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from remask.canvas import Canvas, Edit
from remask.decoders.base import Decoder, View
from remask.decoders.select import longest_prefix
from remask.errors import RemaskError


@dataclass(frozen=True)
class Risk(Decoder):
    """Write the n most confident for which n^together (1 - confidence of the n-th) <= budget, at least the best; all that is eligible where none is below 1 - last.

    A position that waits is seen again with more written around it. While any other waits too that is free, since the next forward comes anyway; if nothing
    else does it costs a forward. So a pass that leaves nothing takes another risk than one that leaves something.

    together: 0 is the static threshold 1 - budget, 1 nearly `factor`, which says n + 1.  last=0 leaves only what budget allows. `entropy_bound` bounds a sum
    over what is written. None of them looks at what is left.
    """

    everywhere: ClassVar[bool] = False
    budget: float = 0.02
    last: float = 0.2
    together: float = 0.0
    mask_candidates: bool = False

    def __post_init__(self) -> None:
        for name in ("budget", "last"):
            if not 0 <= getattr(self, name) <= 1:
                raise RemaskError(f"{name} is {getattr(self, name)}; it is a probability, from 0 to 1")
        if not 0 <= self.together < float("inf"):
            raise RemaskError(f"together is {self.together}; it must be a number from 0 up")

    def init(self, canvas: Canvas) -> None:
        return None

    def step(self, view: View, state: None) -> tuple[Edit, None]:
        confidence = view.prediction.raw.confidence
        number = torch.arange(1, confidence.shape[1] + 1, device=confidence.device).double()
        write = longest_prefix(confidence, view.eligible, lambda falling: number**self.together * (1 - falling) <= self.budget)
        ends = ((1 - confidence <= self.last) | ~view.eligible).all(1, keepdim=True)
        return Edit(torch.where(ends, view.eligible, write), view.prediction.candidates), None
