"""Prophet (arXiv 2508.19982): once the model is sure of its answer, everything is written at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from remask.canvas import Canvas, Edit
from remask.citation import Paper
from remask.decoders.base import Decoder, View
from remask.decoders.select import top
from remask.errors import RemaskError
from remask.prediction import largest

PROPHET = Paper(
    "Diffusion Language Models Know the Answer Before Decoding",
    "2508.19982",
    2025,
    "Pengxiang Li and Yefan Zhou and Dilxat Muhtar and Lu Yin and Shilin Yan and Li Shen and Yi Liang and Soroush Vosoughi and Shiwei Liu",
)

SCHED = Paper(
    "Fast-Decoding Diffusion Language Models via Progress-Aware Confidence Schedules", "2512.02892", 2025, "Amr Mohamed and Yang Zhang and Michalis Vazirgiannis and Guokan Shang"
)

GAPS = (7.5, 5.0, 2.5)
PHASES = (0.33, 0.67)


@dataclass(frozen=True, eq=False)
class Start:
    """unknown: (B,) int64, positions to be written.  length: (B,) int64, positions in all."""

    unknown: Tensor
    length: Tensor


@dataclass(frozen=True)
class Prophet(Decoder):
    """One token per forward, best first, until the mean gap between the two best logits is enough for the progress made: then all.

    answer: the reference looks at 5 positions from a known place of the answer; here, `tail`, the last `width` eligible
    positions before the end, or `span`, every eligible one (for open text; SchED, arXiv 2512.02892, in its spirit).
    early, middle, late: gaps at progress below 0.33, below 0.67, and after; progress = share of the `of` positions written.
    smooth: the gap falls in a line from `early` at the start over `middle` half-way to `late` at the end. SchED has a smooth threshold over the full span;
    its formula is not public to us.
    """

    early: float = GAPS[0]
    middle: float = GAPS[1]
    late: float = GAPS[2]
    answer: Literal["span", "tail"] = "span"
    width: int = 5
    smooth: bool = False
    of: Literal["unknown", "canvas"] = "unknown"
    mask_candidates: bool = False
    papers: ClassVar[tuple[Paper, ...]] = (PROPHET, SCHED)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.answer not in ("span", "tail") or self.of not in ("unknown", "canvas"):
            raise RemaskError(f"answer is {self.answer!r}, of is {self.of!r}; answer must be span or tail, of must be unknown or canvas")
        if self.width < 1:
            raise RemaskError(f"width is {self.width}; it must be 1 or more")

    def init(self, canvas: Canvas) -> Start:
        return Start(canvas.masked.sum(1), canvas.real.sum(1))

    def step(self, view: View, state: Start) -> tuple[Edit, Start]:
        left = view.canvas.masked.sum(1)
        whole = state.unknown if self.of == "unknown" else state.length
        progress = (whole - left).double() / whole.clamp(min=1)
        needed = self.gap(progress)
        best = largest(view.prediction.raw.logits, 2)[0].double()
        apart = (best[..., 0] - best[..., 1]).nan_to_num(posinf=1e9).clamp(max=1e9)
        asked = view.eligible
        if self.answer == "tail":
            asked = asked & (asked.flip(1).cumsum(1).flip(1) <= self.width)
        mean = (apart * asked).sum(1) / asked.sum(1).clamp(min=1)
        sure = view.eligible & (mean >= needed)[:, None]
        return Edit(sure | top(view.prediction.raw.confidence, view.eligible, 1), view.prediction.candidates), state

    def gap(self, progress: Tensor) -> Tensor:
        """(B,) float64 progress -> the mean gap that is enough."""
        if not self.smooth:
            return torch.where(progress < PHASES[0], self.early, torch.where(progress < PHASES[1], self.middle, self.late))
        first, second = (2 * progress).clamp(max=1), (2 * progress - 1).clamp(min=0)
        return self.early + (self.middle - self.early) * first + (self.late - self.middle) * second
