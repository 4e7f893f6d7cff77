"""Dream's four algorithms (arXiv 2508.15487; diffusion_generate of DreamLM/Dream), counts per row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.canvas import Canvas, Edit
from remask.citation import DREAM, Paper
from remask.decoders.base import Decoder, View
from remask.decoders.scores import ConfidenceName, check_score, confidence
from remask.decoders.select import top
from remask.errors import RemaskError
from remask.randomness import ORDER, TRANSFER
from remask.schedules import BlockClock, check_steps, falling_share, time_at

MARGIN = Paper(
    "Train for the Worst, Plan for the Best: Understanding Token Ordering in Masked Diffusions",
    "2502.06768",
    2025,
    "Jaeyeon Kim and Kulin Shah and Vasilis Kontonis and Sham Kakade and Sitan Chen",
)


@dataclass(frozen=True)
class Ranked(Decoder):
    """What Dream's ranked algorithms share: the falling schedule and the optional noise on the order.

    alg_temp: 0 writes the best; above 0 draws positions without replacement from softmax(score / alg_temp).
    """

    everywhere: ClassVar[bool] = False
    steps: int | None = None
    alg_temp: float = 0.0
    mask_candidates: bool = False
    papers: ClassVar[tuple[Paper, ...]] = (DREAM,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_steps(self.steps)
        if not self.alg_temp >= 0:
            raise RemaskError(f"alg_temp is {self.alg_temp}; it must be 0 or more")

    def init(self, canvas: Canvas) -> BlockClock:
        return BlockClock.start(canvas, self.steps)

    def score(self, view: View) -> Tensor:
        """(B, L): how sure the shaped belief is."""
        raise NotImplementedError

    def step(self, view: View, state: BlockClock) -> tuple[Edit, BlockClock]:
        clock = state.enter(view.canvas, view.eligible)
        score = self.score(view)
        if self.alg_temp > 0:
            gumbel = -(-view.uniforms(ORDER).log()).log()
            score = score.double() / self.alg_temp + gumbel
        count = 1 if self.steps is None else falling_share(view.eligible.sum(1), clock.done, clock.steps)
        return Edit(top(score, view.eligible, count), view.prediction.candidates), clock.tick()


@dataclass(frozen=True)
class MaskgitPlus(Ranked):
    """Rank by the candidate's probability (`maskgit_plus`)."""

    rank_by: ConfidenceName = "max"

    def __post_init__(self) -> None:
        super().__post_init__()
        check_score(self.rank_by)

    def score(self, view: View) -> Tensor:
        return confidence(view.prediction.shaped, self.rank_by)


@dataclass(frozen=True)
class TopKMargin(Ranked):
    """Rank by the difference of the two largest probabilities (`topk_margin`; arXiv 2502.06768)."""

    papers: ClassVar[tuple[Paper, ...]] = (DREAM, MARGIN)

    def score(self, view: View) -> Tensor:
        return view.prediction.shaped.margin


@dataclass(frozen=True)
class Entropy(Ranked):
    """Rank by low entropy (`entropy`)."""

    def score(self, view: View) -> Tensor:
        return -view.prediction.shaped.entropy


@dataclass(frozen=True)
class Origin(Decoder):
    """Each masked position is written with probability 1 - s/t, all at the last step (`origin`)."""

    everywhere: ClassVar[bool] = False
    steps: int | None = None
    mask_candidates: bool = False
    papers: ClassVar[tuple[Paper, ...]] = (DREAM,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_steps(self.steps)

    def init(self, canvas: Canvas) -> BlockClock:
        return BlockClock.start(canvas, self.steps)

    def step(self, view: View, state: BlockClock) -> tuple[Edit, BlockClock]:
        clock = state.enter(view.canvas, view.eligible)
        uniform = view.uniforms(TRANSFER)
        if self.steps is None:
            return Edit(top(uniform, view.eligible, 1), view.prediction.candidates), clock.tick()
        t, s = time_at(clock.done, clock.steps, 1e-3), time_at(clock.done + 1, clock.steps, 1e-3)
        chance = torch.where(clock.done >= clock.steps - 1, 1.0, 1 - s / t)
        return Edit(view.eligible & (uniform < chance[:, None]), view.prediction.candidates), clock.tick()
