"""Fast-dLLM's parallel rules (arXiv 2505.22618, section 3.3): a confidence threshold, and its factor form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch

from remask.canvas import Canvas, Edit
from remask.citation import FAST_DLLM, Paper
from remask.decoders.base import Decoder, View
from remask.decoders.scores import ConfidenceName, check_score, confidence
from remask.decoders.select import longest_prefix
from remask.errors import RemaskError


@dataclass(frozen=True)
class Threshold(Decoder):
    """Write every eligible position whose confidence reaches `tau` (`>=`, or `>` when strict), at least the best.

    at_most: the most positions a step writes, best first (Fast-dLLM's Dream loop: masks // steps); None has no limit.
    """

    everywhere: ClassVar[bool] = False
    tau: float = 0.9
    strict: bool = False
    at_most: int | None = None
    score: ConfidenceName = "max"
    mask_candidates: bool = False
    papers: ClassVar[tuple[Paper, ...]] = (FAST_DLLM,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_score(self.score)
        if self.at_most is not None and self.at_most < 1:
            raise RemaskError(f"at_most is {self.at_most}; it must be 1 or more, or left out")

    def init(self, canvas: Canvas) -> None:
        return None

    def step(self, view: View, state: None) -> tuple[Edit, None]:
        score = confidence(view.prediction.raw, self.score)
        passes = torch.gt if self.strict else torch.ge
        write = longest_prefix(score, view.eligible, lambda falling: passes(falling, self.tau), at_most=self.at_most)
        return Edit(write, view.prediction.candidates), None


@dataclass(frozen=True)
class Factor(Decoder):
    """Write the longest prefix of the ranking with (n + 1)(1 - confidence of the n-th) < f, at least the best."""

    everywhere: ClassVar[bool] = False
    f: float = 1.0
    score: ConfidenceName = "max"
    mask_candidates: bool = False
    papers: ClassVar[tuple[Paper, ...]] = (FAST_DLLM,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_score(self.score)
        if not self.f >= 0:
            raise RemaskError(f"f is {self.f}; it must be 0 or more")

    def init(self, canvas: Canvas) -> None:
        return None

    def step(self, view: View, state: None) -> tuple[Edit, None]:
        score = confidence(view.prediction.raw, self.score)
        rank = torch.arange(score.shape[1], device=score.device)
        write = longest_prefix(score, view.eligible, lambda falling: (rank + 2) * (1 - falling) < self.f)
        return Edit(write, view.prediction.candidates), None
