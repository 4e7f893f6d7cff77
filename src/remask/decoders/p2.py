"""P2, path planning (arXiv 2502.03540), planning by itself: at every step the least sure tokens are masked again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from remask.canvas import Canvas, Edit
from remask.citation import Paper
from remask.decoders.base import Decoder, View
from remask.decoders.scores import support
from remask.decoders.select import top
from remask.errors import RemaskError
from remask.schedules import BlockClock

PAPER = Paper(
    "Path Planning for Masked Diffusion Model Sampling", "2502.03540", 2025,
    "Fred Zhangzhi Peng and Zachary Bezemek and Sawan Patel and Jarrid Rector-Brooks and Sherwood Yao and Avishek Joey Bose and Alexander Tong and Pranam Chatterjee",
)  # fmt: skip


@dataclass(frozen=True)
class P2(Decoder):
    """After step k of `steps`, n (1 - k / steps) of a block's n positions stay masked: those of the lowest score.

    Masks score log p(draw), written tokens eta log p(token); eta = 0 never masks again, above 1 masks more.
    """

    revises: ClassVar[bool] = True
    steps: int = 32
    eta: float = 1.0
    draws: ClassVar[bool] = True
    mask_candidates: bool = False
    rescores: ClassVar[bool] = True
    papers: ClassVar[tuple[Paper, ...]] = (PAPER,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise RemaskError(f"steps is {self.steps}; it must be 1 or more")
        if not self.eta >= 0:
            raise RemaskError(f"eta is {self.eta}; it must be 0 or more")

    def init(self, canvas: Canvas) -> BlockClock:
        return BlockClock.start(canvas, self.steps)

    def step(self, view: View, state: BlockClock) -> tuple[Edit, BlockClock]:
        clock = state.enter(view.canvas, view.eligible)
        belief = view.prediction.raw
        score = torch.where(view.eligible, belief.sampled_confidence.log(), self.eta * support(view).log())
        open_ = view.eligible | view.filled
        total, done = open_.sum(1), clock.done + 1
        keep = total - (total * (clock.steps - done).clamp(min=0)).div(clock.steps.clamp(min=1), rounding_mode="floor")
        kept = top(score, open_, keep)
        return Edit(kept & view.eligible, view.prediction.candidates, view.filled & ~kept), clock.tick()
