"""First-hitting sampling (arXiv 2409.02908): one position per forward, chosen uniformly; exact for an exact model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from remask.canvas import Canvas, Edit
from remask.citation import Paper
from remask.decoders.base import Decoder, View
from remask.decoders.select import top
from remask.randomness import ORDER

PAPER = Paper(
    "Masked Diffusion Models are Secretly Time-Agnostic Masked Models and Exploit Inaccurate Categorical Sampling", "2409.02908", 2024,
    "Kaiwen Zheng and Yongxin Chen and Hanzi Mao and Ming-Yu Liu and Jun Zhu and Qinsheng Zhang",
)  # fmt: skip


@dataclass(frozen=True)
class FirstHitting(Decoder):
    """A random mask takes a draw. The hitting times matter to time-conditioned networks only, and are left out."""

    everywhere: ClassVar[bool] = False
    draws: ClassVar[bool] = True
    papers: ClassVar[tuple[Paper, ...]] = (PAPER,)

    def init(self, canvas: Canvas) -> None:
        return None

    def step(self, view: View, state: None) -> tuple[Edit, None]:
        return Edit(top(view.uniforms(ORDER), view.eligible, 1), view.prediction.candidates), None
