"""EB-Sampler (arXiv 2505.24857, eq. 6): the joint entropy of what is written together is bounded."""

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
    "Accelerated Sampling from Masked Diffusion Models via Entropy Bounded Unmasking",
    "2505.24857",
    2025,
    "Heli Ben-Hamu and Itai Gat and Daniel Severo and Niklas Nolte and Brian Karrer",
)


@dataclass(frozen=True)
class EntropyBound(Decoder):
    """Least entropy first: the longest prefix whose entropies, without the largest, sum to at most `gamma` nats, at least one.

    That sum bounds the information lost by drawing the prefix from its marginals.
    """

    everywhere: ClassVar[bool] = False
    gamma: float = 0.1
    mask_candidates: bool = False
    papers: ClassVar[tuple[Paper, ...]] = (PAPER,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.gamma >= 0:
            raise RemaskError(f"gamma is {self.gamma}; it must be 0 or more")

    def init(self, canvas: Canvas) -> None:
        return None

    def step(self, view: View, state: None) -> tuple[Edit, None]:
        write = longest_prefix(-view.prediction.raw.entropy, view.eligible, self.within)
        return Edit(write, view.prediction.candidates), None

    def within(self, falling: Tensor) -> Tensor:
        """Ranks (B, L) of falling negative entropies that the budget allows; the largest so far is the rank's own."""
        entropy = -falling.double()
        before = torch.where(entropy.isfinite(), entropy, 0.0).cumsum(1) - entropy
        return before <= self.gamma
