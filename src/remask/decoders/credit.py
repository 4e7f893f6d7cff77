"""CreditDecoding (arXiv 2510.06133): tokens that keep coming back gain credit, which is added to the logits."""

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
    "CreditDecoding: Accelerating Parallel Decoding in Diffusion Large Language Models with Trace Credits", "2510.06133", 2025,
    "Kangyu Wang and Zhiyun Jiang and Haibo Feng and Weijia Zhao and Lin Liu and Jianguo Li and Zhenzhong Lan and Weiyao Lin",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Account:
    """credit: (B, L, V).  span: (B, L) bool, the block it was gathered in."""

    credit: Tensor | None
    span: Tensor


@dataclass(frozen=True)
class Credit(Decoder):
    """Credit decays by `beta` and grows by p(top)^gamma; the token and its confidence come from logits + alpha log(1 + credit).

    Then a threshold `tau`. Keeps one number per position and token. Credit starts anew with every block, unless `reset=false`.
    The tokens are arg maxima: a temperature has no effect. Defaults are dInfer's; the ACL text prints alpha=0.65, tau=0.95.
    """

    alpha: float = 0.7
    beta: float = 0.8
    gamma: float = 0.2
    tau: float = 0.9
    reset: bool = True
    mask_candidates: bool = False
    papers: ClassVar[tuple[Paper, ...]] = (PAPER,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not (self.alpha >= 0 and 0 <= self.beta <= 1):
            raise RemaskError(f"alpha={self.alpha}, beta={self.beta}: alpha must be 0 or more, beta from 0 to 1")

    def init(self, canvas: Canvas) -> Account:
        return Account(None, torch.zeros_like(canvas.given))

    def step(self, view: View, state: Account) -> tuple[Edit, Account]:
        belief = view.prediction.shaped
        best, place = belief.probabilities.max(-1, keepdim=True)
        credit = torch.zeros_like(belief.logits) if state.credit is None else state.credit
        kept = best.new_full((len(view.span), 1, 1), self.beta)
        if self.reset:
            kept = kept.masked_fill((view.span != state.span).any(1)[:, None, None], 0.0)
        credit = (kept * credit).scatter_add_(-1, place, best**self.gamma * view.canvas.masked[..., None])
        sure, tokens = torch.softmax(belief.logits + self.alpha * credit.log1p(), -1).max(-1)
        write = longest_prefix(sure, view.eligible, lambda falling: falling > self.tau)
        return Edit(write, tokens), Account(credit, view.span)
