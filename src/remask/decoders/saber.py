"""Saber (arXiv 2510.18165): a threshold that follows what was written, and backtracking on what has lost confidence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.canvas import Canvas, Edit
from remask.citation import Paper
from remask.decoders.base import Decoder, View
from remask.decoders.scores import support
from remask.decoders.select import longest_prefix, top
from remask.errors import RemaskError

PAPER = Paper(
    "Saber: An Efficient Sampling with Adaptive Acceleration and Backtracking Enhanced Remasking for Diffusion Language Model", "2510.18165", 2025,
    "Yihong Dong and Zhaoyu Ma and Xue Jiang and Zhiyuan Fan and Jiaru Qian and Yongmin Li and Jianha Xiao and Zhi Jin and "
    "Rongyu Cao and Binhua Li and Fei Huang and Yongbin Li and Ge Li",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Ledger:
    """total, count: (B,) float64, confidences of all tokens written so far.  last: (B, L), each written token's probability one step ago."""

    total: Tensor
    count: Tensor
    last: Tensor


@dataclass(frozen=True)
class Saber(Decoder):
    """Write what exceeds the mean confidence of all written tokens (1 at first), at least `least`.

    Then mask again up to max(least // 2, ceil(written / 8)) tokens of the open block, fewer than were written: those whose
    probability fell most since the step before. So every step makes progress.
    """

    revises: ClassVar[bool] = True
    least: int = 2
    mask_candidates: bool = False
    rescores: ClassVar[bool] = True
    papers: ClassVar[tuple[Paper, ...]] = (PAPER,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.least < 1:
            raise RemaskError(f"least is {self.least}; it must be 1 or more")

    def init(self, canvas: Canvas) -> Ledger:
        zero = torch.zeros(canvas.shape[0], dtype=torch.float64, device=canvas.tokens.device)
        return Ledger(zero, zero, torch.zeros(canvas.shape, device=canvas.tokens.device))

    def step(self, view: View, state: Ledger) -> tuple[Edit, Ledger]:
        belief = view.prediction.raw
        tau = torch.where(state.count > 0, state.total / state.count.clamp(min=1), 1.0)[:, None]
        write = longest_prefix(belief.confidence, view.eligible, lambda falling: falling > tau, at_least=self.least)
        written = write.sum(1)
        held = support(view)
        fell = state.last - held
        allowed = torch.maximum(written.new_tensor(self.least // 2), -(-written // 8)).minimum(written - 1)
        again = top(fell, view.filled & (fell > 0), allowed)
        total = state.total + (belief.confidence.double() * write).sum(1)
        last = torch.where(write, belief.confidence, held)
        return Edit(write, view.prediction.candidates, again), Ledger(total, state.count + written, last)
