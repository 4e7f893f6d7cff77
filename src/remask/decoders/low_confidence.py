"""LLaDA's two remasking orders (arXiv 2502.09992, Algorithm 5; generate.py of ML-GSAI/LLaDA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from remask.canvas import Canvas, Edit
from remask.citation import LLADA, Paper
from remask.decoders.base import Decoder, View
from remask.decoders.pace import write_best
from remask.decoders.scores import ConfidenceName, check_score, confidence
from remask.decoders.select import top
from remask.errors import RemaskError
from remask.randomness import ORDER
from remask.schedules import BlockClock, LiteralBlocks, check_steps


@dataclass(frozen=True)
class LowConfidence(Decoder):
    """Write the most confident positions, by the belief before temperature and filters.

    steps: None writes one token per forward; n is the published schedule, n forwards in all.
    last: token ids whose positions have confidence 0 (`confidence_eos_eot_inf` is the ids of end-of-text and end-of-turn).
    literal_blocks: a block length; the nested loop to the letter, with window `whole`, for parity: masks in the prompt compete for
    the budget of the blocks, and what is then left after n steps, in the published loop for ever, is written one per forward.
    """

    everywhere: ClassVar[bool] = False
    steps: int | None = None
    score: ConfidenceName = "max"
    mask_candidates: bool = False
    last: tuple[int, ...] = ()
    literal_blocks: int | None = None
    papers: ClassVar[tuple[Paper, ...]] = (LLADA,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_steps(self.steps)
        check_score(self.score)
        if self.literal_blocks is not None and (self.literal_blocks < 1 or self.steps is None):
            raise RemaskError(f"literal_blocks is {self.literal_blocks} with steps {self.steps}; give a block length of 1 or more, and steps")

    def init(self, canvas: Canvas) -> BlockClock | LiteralBlocks:
        if self.literal_blocks is not None and self.steps is not None:
            return LiteralBlocks.start(canvas, self.steps, self.literal_blocks)
        return BlockClock.start(canvas, self.steps)

    def step(self, view: View, state: Any) -> tuple[Edit, Any]:
        score = confidence(view.prediction.raw, self.score)
        if self.last:
            score = score.masked_fill(torch.stack([view.prediction.candidates == token for token in self.last]).any(0), 0.0)
        if isinstance(state, LiteralBlocks):
            clock, open_, count = state.enter(view.canvas)
            return Edit(top(score, view.eligible & open_, count), view.prediction.candidates), clock.tick()
        return write_best(view, score, state, self.steps)


@dataclass(frozen=True)
class Random(Decoder):
    """Write positions in random order: with one token per forward an exact any-order sampler (first-hitting order)."""

    everywhere: ClassVar[bool] = False
    steps: int | None = None
    mask_candidates: bool = False
    papers: ClassVar[tuple[Paper, ...]] = (LLADA,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_steps(self.steps)

    def init(self, canvas: Canvas) -> BlockClock:
        return BlockClock.start(canvas, self.steps)

    def step(self, view: View, state: BlockClock) -> tuple[Edit, BlockClock]:
        return write_best(view, view.uniforms(ORDER), state, self.steps)
