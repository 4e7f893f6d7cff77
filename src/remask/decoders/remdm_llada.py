"""ReMDM's loop (arXiv 2503.00307) as it is run on LLaDA: while a row is nearly full, its least likely token is masked again."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.canvas import Canvas, Edit
from remask.citation import REMDM, Paper
from remask.decoders.base import Decoder, View
from remask.decoders.pace import write_best
from remask.decoders.scores import support
from remask.decoders.select import top
from remask.errors import RemaskError
from remask.schedules import BlockClock, check_steps


@dataclass(frozen=True, eq=False)
class Laps:
    """clock: see BlockClock.  slots: (B,) int64, positions that were masked at the start.  made: (B,) int64, tokens taken back."""

    clock: BlockClock
    slots: Tensor
    made: Tensor


@dataclass(frozen=True)
class ReMDMLLaDA(Decoder):
    """Low confidence order; once at most `share` of the row's positions is masked, each of `loops` passes also masks the written token that is now least likely.

    Of the open block's tokens, never one of the same pass. Then the rest is filled. The form of Uncode's code as a third party describes it (7/8 of the row, 32 loops),
    which scores and refills in two forwards a loop; here one forward does both, so the token that comes back was proposed while the least likely one still stood.
    """

    revises: ClassVar[bool] = True
    rescores: ClassVar[bool] = True
    steps: int | None = None
    share: float = 0.125
    loops: int = 32
    mask_candidates: bool = False
    papers: ClassVar[tuple[Paper, ...]] = (REMDM,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_steps(self.steps)
        if not 0 <= self.share <= 1:
            raise RemaskError(f"share is {self.share}; it must be from 0 to 1")
        if self.loops < 0:
            raise RemaskError(f"loops is {self.loops}; it must be 0 or more")

    def init(self, canvas: Canvas) -> Laps:
        slots = canvas.masked.sum(1)
        return Laps(BlockClock.start(canvas, self.steps), slots, torch.zeros_like(slots))

    def step(self, view: View, state: Laps) -> tuple[Edit, Laps]:
        edit, clock = write_best(view, view.prediction.raw.confidence, state.clock, self.steps)
        left = (view.canvas.masked & ~edit.write).sum(1)
        due = (left <= self.share * state.slots) & (state.made < self.loops)
        again = top(-support(view), view.filled, 1) & due[:, None]
        return Edit(edit.write, edit.tokens, again), Laps(clock, state.slots, state.made + again.any(1))
