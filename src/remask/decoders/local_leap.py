"""LocalLeap (arXiv 2510.07081): near a sure position a lower threshold is enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional

from remask.canvas import Canvas, Edit
from remask.citation import Paper
from remask.decoders.base import Decoder, View
from remask.decoders.select import top
from remask.errors import RemaskError

PAPER = Paper(
    "Accelerating Diffusion LLM Inference via Local Determinism Propagation", "2510.07081", 2025,
    "Fanheng Kong and Jingyuan Zhang and Yahui Liu and Zirui Wu and Yu Tian and Guorui Zhou and others",
)  # fmt: skip


@dataclass(frozen=True)
class LocalLeap(Decoder):
    """Anchors reach `tau`; masks within `radius` of an anchor need `near` only; always the best one."""

    tau: float = 0.9
    near: float = 0.75
    radius: int = 4
    mask_candidates: bool = False
    papers: ClassVar[tuple[Paper, ...]] = (PAPER,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.radius < 0:
            raise RemaskError(f"radius is {self.radius}; it must be 0 or more")

    def init(self, canvas: Canvas) -> None:
        return None

    def step(self, view: View, state: None) -> tuple[Edit, None]:
        confidence = view.prediction.raw.confidence
        anchor = view.eligible & (confidence >= self.tau)
        reach = functional.max_pool1d(anchor[:, None].float(), 2 * self.radius + 1, stride=1, padding=self.radius)[:, 0] > 0
        needed = torch.where(reach, self.near, self.tau)
        write = (view.eligible & (confidence >= needed)) | top(confidence, view.eligible, 1)
        return Edit(write, view.prediction.candidates), None
