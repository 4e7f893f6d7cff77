"""A threshold that is strict while others wait and lenient where it ends the row, and strict where much is missing before a token: ours, of no paper."""

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
    """Write the n least doubtful for which n^together (doubt of the n-th) <= budget, at least one; all that is eligible where none is below confidence 1 - last.

    Doubt is (1 - confidence) (1 + m)^left, m being the eligible positions before it: a text that builds on what stands left of it is wrong more often than the
    network believes where that is missing. What ends the row is judged by its confidence alone.

    A position that waits is seen again with more written around it. While any other waits too that is free, since the next forward comes anyway; if nothing
    else does it costs a forward. So a pass that leaves nothing takes another risk than one that leaves something.

    left: 0 takes a network at its word (grids, sums), 1 is for chains of statements.  together: 0 is a static threshold, 1 - budget with left=0, and 1 nearly
    `factor`, which says n + 1.  last=0 leaves only what budget allows. `entropy_bound` bounds a sum over what is written. None of them looks at what is left.
    """

    everywhere: ClassVar[bool] = False
    budget: float = 0.02
    last: float = 0.2
    together: float = 0.0
    left: float = 0.0
    mask_candidates: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("budget", "last"):
            if not 0 <= getattr(self, name) <= 1:
                raise RemaskError(f"{name} is {getattr(self, name)}; it is a probability, from 0 to 1")
        for name in ("together", "left"):
            if not getattr(self, name) >= 0:
                raise RemaskError(f"{name} is {getattr(self, name)}; it must be a number from 0 up")

    def init(self, canvas: Canvas) -> None:
        return None

    def step(self, view: View, state: None) -> tuple[Edit, None]:
        confidence = view.prediction.raw.confidence
        number = torch.arange(1, confidence.shape[1] + 1, device=confidence.device).double()
        before = view.eligible.cumsum(1) - view.eligible.long()
        doubt = (1 - confidence.double()) * (1 + before) ** self.left
        write = longest_prefix(-doubt, view.eligible, lambda falling: number**self.together * -falling <= self.budget)
        ends = ((1 - confidence <= self.last) | ~view.eligible).all(1, keepdim=True)
        return Edit(torch.where(ends, view.eligible, write), view.prediction.candidates), None
