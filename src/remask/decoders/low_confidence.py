"""LLaDA's two remasking orders (arXiv 2502.09992, Algorithm 5; generate.py of ML-GSAI/LLaDA)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from remask.canvas import Canvas, Edit
from remask.citation import LLADA, Paper
from remask.decoders.base import Decoder, View
from remask.decoders.scores import ConfidenceName, check_score, confidence
from remask.decoders.select import top
from remask.randomness import ORDER
from remask.schedules import BlockClock, check_steps


def write_best(view: View, score: Tensor, clock: BlockClock, steps: int | None) -> tuple[Edit, BlockClock]:
    """Write the best positions: one, or the even share of the block's schedule."""
    clock = clock.enter(view.canvas, view.eligible)
    count = 1 if steps is None else clock.even_share()
    return Edit(top(score, view.eligible, count), view.prediction.candidates), clock.tick()


@dataclass(frozen=True)
class LowConfidence(Decoder):
    """Write the most confident positions, by the belief before temperature and filters.

    steps: None writes one token per forward; n is the published schedule, n forwards in all.
    """

    steps: int | None = None
    score: ConfidenceName = "max"
    mask_candidates: bool = False
    papers: ClassVar[tuple[Paper, ...]] = (LLADA,)

    def __post_init__(self) -> None:
        check_steps(self.steps)
        check_score(self.score)

    def init(self, canvas: Canvas) -> BlockClock:
        return BlockClock.start(canvas, self.steps)

    def step(self, view: View, state: BlockClock) -> tuple[Edit, BlockClock]:
        return write_best(view, confidence(view.prediction.raw, self.score), state, self.steps)


@dataclass(frozen=True)
class Random(Decoder):
    """Write positions in random order: with one token per forward an exact any-order sampler (first-hitting order)."""

    steps: int | None = None
    mask_candidates: bool = False
    papers: ClassVar[tuple[Paper, ...]] = (LLADA,)

    def __post_init__(self) -> None:
        check_steps(self.steps)

    def init(self, canvas: Canvas) -> BlockClock:
        return BlockClock.start(canvas, self.steps)

    def step(self, view: View, state: BlockClock) -> tuple[Edit, BlockClock]:
        return write_best(view, view.uniforms(ORDER), state, self.steps)
