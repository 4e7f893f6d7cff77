"""CoRe (arXiv 2602.04096): the least sure tokens are masked together for one pass, and those that lose most stay masked."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.canvas import Canvas, Edit
from remask.citation import Paper
from remask.decoders.base import Decoder, View
from remask.decoders.pace import write_best
from remask.decoders.scores import support
from remask.decoders.select import top
from remask.errors import RemaskError
from remask.schedules import BlockClock, check_steps

PAPER = Paper("CORE: Context-Robust Remasking for Diffusion Language Models", "2602.04096", 2026, "Kevin Zhai and Sabbir Mollah and Zhenyi Wang and Mubarak Shah")


@dataclass(frozen=True, eq=False)
class Review:
    """clock: see BlockClock.  made: (B,) int64, steps that wrote.  held: (B, L) int64, tokens under review.

    support: (B, L), their probabilities before.  asked: (B, L) bool, positions under review.
    """

    clock: BlockClock
    made: Tensor
    held: Tensor
    support: Tensor
    asked: Tensor


@dataclass(frozen=True)
class CoRe(Decoder):
    """Low confidence order; after every `every` steps, `reviews` times in all, the `suspects` smallest margins among written tokens are masked jointly.

    A token's margin is its probability less that of its strongest rival: below 0 where the model would write another one.
    The next pass is the review: all but the `remask` tokens that lost most log probability return, and nothing else is written.
    Set sizes and schedule are ours: the public text does not give them.
    """

    revises: ClassVar[bool] = True
    steps: int | None = None
    every: int = 16
    reviews: int = 8
    suspects: int = 8
    remask: int = 1
    mask_candidates: bool = False
    rescores: ClassVar[bool] = True
    papers: ClassVar[tuple[Paper, ...]] = (PAPER,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_steps(self.steps)
        if min(self.every, self.suspects, self.remask) < 1 or self.reviews < 0:
            raise RemaskError(f"every={self.every}, suspects={self.suspects}, remask={self.remask}, reviews={self.reviews}: the first three must be 1 or more, reviews 0 or more")

    def init(self, canvas: Canvas) -> Review:
        zero = torch.zeros(canvas.shape[0], dtype=torch.int64, device=canvas.tokens.device)
        return Review(BlockClock.start(canvas, self.steps), zero, canvas.tokens, torch.zeros(canvas.shape, device=zero.device), torch.zeros_like(canvas.given))

    def step(self, view: View, state: Review) -> tuple[Edit, Review]:
        belief = view.prediction.raw
        reviewing = state.asked.any(1)
        # a pass that reviews: the tokens return but for those that lost most
        now = belief.probabilities.gather(-1, state.held[..., None])[..., 0]
        lost = state.support.log() - now.log()
        back = state.asked & ~top(lost, state.asked, self.remask)
        # a pass that writes, and may put suspects under review
        best, second = belief.top_two[..., 0], belief.top_two[..., -1]
        edit, clock = write_best(view, best, state.clock, self.steps)
        write = edit.write & ~reviewing[:, None]
        made = state.made + ~reviewing
        left = (view.canvas.masked & ~write).any(1)
        due = ~reviewing & left & (made % self.every == 0) & (made <= self.every * self.reviews)
        sure = support(view)
        rival = torch.where(belief.logits.argmax(-1) == view.canvas.tokens, second, best)
        suspects = top(rival - sure, view.filled, self.suspects) & due[:, None]
        held = torch.where(suspects, view.canvas.tokens, state.held)
        clock = BlockClock(*(torch.where(reviewing, old, new) for old, new in zip(fields(state.clock), fields(clock), strict=True)))
        edit = Edit(write | back, torch.where(back, state.held, view.prediction.candidates), suspects)
        return edit, Review(clock, made, held, torch.where(suspects, sure, state.support), suspects)


def fields(clock: BlockClock) -> tuple[Tensor, ...]:
    """The clock's tensors in the order of its constructor."""
    return clock.steps_left, clock.masks, clock.steps, clock.done
