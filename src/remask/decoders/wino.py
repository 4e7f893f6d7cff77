"""WINO, wide in and narrow out (arXiv 2507.18578): drafts are written freely, and each is checked by a row that does not see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.canvas import Canvas, Edit
from remask.citation import Paper
from remask.decoders.base import Decoder, View
from remask.decoders.select import ranked, top, unranked
from remask.errors import RemaskError

PAPER = Paper(
    "Wide-In, Narrow-Out: Revokable Decoding for Efficient and Effective DLLMs", "2507.18578", 2025,
    "Feng Hong and Geng Yu and Yushi Ye and Haicheng Huang and Huangjie Zheng and Ya Zhang and Yanfeng Wang and Jiangchao Yao",
)  # fmt: skip


@dataclass(frozen=True)
class WINO(Decoder):
    """Masks above `tau` are written, at least the best, at most share * masks (from `least` to `most` of them).

    Then written tokens of the open block whose probability without themselves (a shadow row) is below `check` are masked again, the least likely first, always
    fewer than were written. The last tokens of a row are not checked, as in the published loop. Shadows are asked for written tokens only.
    """

    tau: float = 0.6
    check: float = 0.9
    share: float = 0.7
    least: int = 5
    most: int = 20
    mask_candidates: bool = False
    revises: ClassVar[bool] = True
    papers: ClassVar[tuple[Paper, ...]] = (PAPER,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.share <= 1 or not 1 <= self.least <= self.most:
            raise RemaskError(f"share={self.share}, least={self.least}, most={self.most}: share must be from 0 to 1, and 1 <= least <= most")

    def init(self, canvas: Canvas) -> None:
        return None

    def shadows(self, canvas: Canvas, span: Tensor, state: None) -> Tensor:
        return span & ~canvas.given & ~canvas.masked

    def step(self, view: View, state: None) -> tuple[Edit, None]:
        confidence = view.prediction.raw.confidence
        falling, order = ranked(confidence, view.eligible)
        rank = torch.arange(falling.shape[1], device=falling.device)
        cap = (view.eligible.sum(1).double() * self.share).long().clamp(self.least, self.most)[:, None]
        write = unranked((rank == 0) | ((falling > self.tau) & (rank < cap)), order, view.eligible)
        again = torch.zeros_like(write)
        if (left_out := view.prediction.left_out) is not None:
            support = left_out.support(view.canvas.tokens)
            again = top(-support, left_out.asked & (support < self.check), (write.sum(1) - 1).clamp(min=0))
        return Edit(write, view.prediction.candidates, again), None
