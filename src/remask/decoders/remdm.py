"""ReMDM (arXiv 2503.00307): written tokens are masked again at a rate that leaves the marginals as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from remask.canvas import Canvas, Edit
from remask.citation import REMDM, Paper
from remask.decoders.base import Decoder, View
from remask.decoders.scores import support
from remask.errors import RemaskError
from remask.randomness import ORDER, TRANSFER

Strategy = Literal["cap", "rescale", "conf", "loop", "switch", "doubt"]
END = 1e-5
LEAST = 1e-3
"""Doubt of a token that the network is sure of."""


@dataclass(frozen=True, eq=False)
class Memory:
    """made: (B,) int64 steps.  psi: (B, L) probability of each token when it was written, infinite where masked."""

    made: Tensor
    psi: Tensor


@dataclass(frozen=True)
class ReMDM(Decoder):
    """One step of linspace(1, 1e-5, steps + 1): a written token is masked with probability sigma, a mask written with
    (alpha_s - (1 - sigma) alpha_t) / (1 - alpha_t) (eq. 6). What is left after the last step takes the arg max.

    strategy: cap, min(eta, largest); rescale, eta * largest; conf, largest * softmax(-psi) over the row; switch, cap below
    `t_switch`; loop, MDLM to `alpha_on`, then as many masked as written from `t_on` to `t_off`, then MDLM to the end.
    doubt (ours): cap's number shared out in proportion to (1 - p)^power, p being what the network now thinks of the token that stands there; fewer where
    a share would exceed 1. For a network that may doubt what it sees (DSL), with a power below 1 if it is surer than it should be; the others leave the
    marginals as they are, this one sharpens them.
    """

    revises: ClassVar[bool] = True
    steps: int = 128
    strategy: Strategy = "cap"
    eta: float = 0.04
    t_switch: float = 0.55
    t_on: float = 0.55
    t_off: float = 0.05
    alpha_on: float = 0.9
    power: float = 1.0
    draws: ClassVar[bool] = True
    papers: ClassVar[tuple[Paper, ...]] = (REMDM,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 1:
            raise RemaskError(f"steps is {self.steps}; it must be 1 or more")
        if not 0 <= self.eta <= 1:
            raise RemaskError(f"eta is {self.eta}; it must be from 0 to 1")
        if not 0 <= self.power <= 10:
            raise RemaskError(f"power is {self.power}; it must be from 0, which masks blindly, to 10")
        if not 0 < self.t_off < self.t_on < 1 or not 0 < self.alpha_on < 1:
            raise RemaskError(f"t_on={self.t_on}, t_off={self.t_off}, alpha_on={self.alpha_on}: write 0 < t_off < t_on < 1 and 0 < alpha_on < 1")
        if self.strategy == "loop" and self.eta > (1 - self.alpha_on) / self.alpha_on:
            raise RemaskError(f"eta is {self.eta}; with alpha_on={self.alpha_on} it must be at most {(1 - self.alpha_on) / self.alpha_on:.4g}")

    @property
    def rescores(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.strategy == "doubt"

    def init(self, canvas: Canvas) -> Memory:
        made = torch.zeros(canvas.shape[0], dtype=torch.int64, device=canvas.tokens.device)
        return Memory(made, torch.full(canvas.shape, float("inf"), dtype=torch.float64, device=canvas.tokens.device))

    def pending(self, state: Memory) -> Tensor:
        return state.made < self.steps

    def rates(self, made: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B,) steps made -> alpha_t, alpha_s and sigma before psi, (B,) float64 each."""
        t = 1 - made.double() * (1 - END) / self.steps
        s = 1 - (made + 1).double() * (1 - END) / self.steps
        here, there = self.alpha(t), self.alpha(s)
        if self.strategy == "loop":
            within = (t <= self.t_on) & (t > self.t_off)
            return torch.where(within, self.alpha_on, here), torch.where(within, self.alpha_on, there), torch.where(within, self.eta, 0.0)
        largest = torch.where(here > 0, (1 - there) / here.clamp(min=1e-300), 1.0).clamp(max=1.0)
        if self.strategy == "rescale":
            return here, there, self.eta * largest
        if self.strategy == "conf":
            return here, there, largest
        sigma = largest.clamp(max=self.eta)
        return here, there, torch.where(t < self.t_switch, sigma, 0.0) if self.strategy == "switch" else sigma

    def alpha(self, t: Tensor) -> Tensor:
        """The share that is visible at time t."""
        if self.strategy != "loop":
            return 1 - t
        rising = (1 - t) * self.alpha_on / (1 - self.t_on)
        ending = 1 - t * (1 - self.alpha_on) / self.t_off
        return torch.where(t > self.t_on, rising, torch.where(t > self.t_off, self.alpha_on, ending))

    def step(self, view: View, state: Memory) -> tuple[Edit, Memory]:
        here, there, sigma = (rate[:, None] for rate in self.rates(state.made))
        last = (state.made >= self.steps)[:, None]
        if self.strategy == "conf":
            sigma = sigma * torch.softmax(-state.psi.masked_fill(~view.filled, float("inf")), dim=1).nan_to_num(0.0)
        chance = (there - (1 - sigma) * here) / (1 - here)
        if self.strategy == "doubt":
            doubt = ((1 - support(view).double()) ** self.power).clamp(min=LEAST) * view.filled
            sigma = sigma * doubt * view.filled.sum(1, keepdim=True) / doubt.sum(1, keepdim=True).clamp(min=LEAST)
        write = view.eligible & (last | (view.uniforms(TRANSFER) < chance))
        again = view.filled & ~last & (view.uniforms(ORDER) < sigma)
        tokens = torch.where(last, view.prediction.shaped.token, view.prediction.candidates)
        psi = torch.where(write, view.prediction.shaped.sampled_confidence.double(), state.psi).masked_fill(again, float("inf"))
        return Edit(write, tokens, again), Memory(state.made + 1, psi)
