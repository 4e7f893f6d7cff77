"""SlowFast sampling (arXiv 2506.10848): a slow phase finds how far certainty reaches, a fast one fills that stretch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.canvas import Canvas, Edit
from remask.citation import Paper
from remask.decoders.base import Decoder, View
from remask.decoders.select import longest_prefix
from remask.errors import RemaskError

PAPER = Paper(
    "Accelerating Diffusion Large Language Models with SlowFast Sampling: The Three Golden Principles", "2506.10848", 2025,
    "Qingyan Wei and Yaojie Zhang and Zhiyuan Liu and Puyu Zeng and Yuxuan Wang and Biqing Qi and Dongrui Liu and Linfeng Zhang",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Cycle:
    """edges: (B,) float64 each, the last `history` horizons, newest last, NaN where there was none yet.

    slow: (B,) int64, slow steps of this cycle.  end: (B,) int64, where the fast phase ends; -1 in the slow phase.
    """

    edges: tuple[Tensor, ...]
    slow: Tensor
    end: Tensor


@dataclass(frozen=True)
class SlowFast(Decoder):
    """Slow: write the best token, and what reaches `slow_tau`, until the horizon has settled or `slow_steps` have passed.

    The horizon is the farthest eligible position with confidence of at least `reach`; it has settled when the standard
    deviation of its last `history` values is below `deviation`. Fast: what reaches `tau`, at least the best, up to that horizon, until it is full.
    Defaults are the code's; the paper prints slow_steps=8, reach=0.1, tau=0.85. No confidence reaches 2: one token a slow step, as published.
    """

    tau: float = 0.9
    reach: float = 0.3
    slow_steps: int = 6
    history: int = 2
    deviation: float = 1.0
    slow_tau: float = 2.0
    mask_candidates: bool = False
    papers: ClassVar[tuple[Paper, ...]] = (PAPER,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.slow_steps < 0:
            raise RemaskError(f"slow_steps is {self.slow_steps}; it must be 0 or more")
        if self.history < 2:
            raise RemaskError(f"history is {self.history}; it must be 2 or more")

    def init(self, canvas: Canvas) -> Cycle:
        rows, device = canvas.shape[0], canvas.tokens.device
        edges = (torch.full((rows,), torch.nan, dtype=torch.float64, device=device),) * self.history
        zero = torch.zeros(rows, dtype=torch.int64, device=device)
        return Cycle(edges, zero, zero - 1)

    def step(self, view: View, state: Cycle) -> tuple[Edit, Cycle]:
        confidence = view.prediction.raw.confidence
        place = torch.arange(confidence.shape[1], device=confidence.device)
        inside = view.eligible & (place <= state.end[:, None])
        fast = inside.any(1)
        eligible = torch.where(fast[:, None], inside, view.eligible)
        ending = torch.where(view.eligible, place, -1).amax(1)
        seen = torch.where(view.eligible & (confidence >= self.reach), place, -1).amax(1)
        edge = torch.where(seen < 0, ending, seen)
        held = torch.stack(state.edges, 1)
        edges = torch.cat([torch.where((state.slow == 0)[:, None], torch.nan, held)[:, 1:], edge[:, None].double()], 1)
        slow = state.slow + 1
        settled = (edges.std(1, correction=0) < self.deviation) | (slow > self.slow_steps)
        end = torch.where(fast, state.end, torch.where(settled, edge, -1))
        tau = torch.where(fast, self.tau, self.slow_tau)[:, None]
        write = longest_prefix(confidence, eligible, lambda falling: falling >= tau)
        edges = torch.where(fast[:, None], held, edges).unbind(1)
        return Edit(write, view.prediction.candidates), Cycle(edges, torch.where(fast | settled, 0, slow), end)
