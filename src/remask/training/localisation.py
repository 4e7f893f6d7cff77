"""DSL's corruption: how well each position of a clean row is seen, and the noise it is seen through (arXiv 2602.16169; values from the public code)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from remask.errors import RemaskError
from remask.training.data import Batch


def roar_snr(eligible: Tensor, generator: torch.Generator, *, snr_max: float = 100.0, smooth: bool = False) -> Tensor:
    """(B, L) SNRs of random-order autoregression: k of the row's n eligible positions known, k uniform from 0 to n - 1, any k of them alike.

    Hard: `snr_max` where known, else 0. Smooth: uniform on [0.8, 1] snr_max and on [0, 1).
    """
    device = eligible.device
    rank = torch.rand(eligible.shape, device=device, generator=generator).masked_fill(~eligible, 2.0).argsort(1).argsort(1)
    count = (torch.rand(len(eligible), 1, device=device, generator=generator) * eligible.sum(1, keepdim=True)).floor()
    known = rank < count
    if not smooth:
        return known * snr_max
    share = torch.rand(eligible.shape, device=device, generator=generator)
    return torch.where(known, snr_max * (0.8 + 0.2 * share), share)


def log_normal_snr(shape: torch.Size, generator: torch.Generator, *, mu: float, sigma: float, per_token: bool = False, most: float = float("inf")) -> Tensor:
    """(B, L) SNRs with log t normal: one a row, or one a position (needed for vocabularies of 100,000 and more)."""
    drawn = torch.randn(shape[0], shape[1] if per_token else 1, device=generator.device, generator=generator)
    return (mu + sigma * drawn).exp().clamp(max=most).expand(shape)


@dataclass(frozen=True)
class Localisation:
    """A batch's SNRs (B, L) and normal noise (B, L, code_dim): the first share `roar` of the rows at endpoints, the others log-normal.

    Positions that may not be masked are known: at snr_max. Shares of 1/4, 1/10 and none are found in the public code; 1/4 is the default. `mu`: put the
    median where the denoiser's cross-entropy has halved; about 1.4 for 27 tokens, 2.3 for 4,000, 2.7 for 50,000.
    """

    code_dim: int
    mu: float = 2.69
    sigma: float = 1.41
    roar: float = 0.25
    smooth: bool = False
    per_token: bool = False
    snr_max: float = 100.0
    most: float = float("inf")

    def __post_init__(self) -> None:
        if not 0 <= self.roar <= 1:
            raise RemaskError(f"roar is {self.roar}; it is a share of the rows, from 0 to 1")

    def __call__(self, batch: Batch, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        shape = batch.tokens.shape
        rows = round(self.roar * shape[0])
        ends = roar_snr(batch.eligible[:rows], generator, snr_max=self.snr_max, smooth=self.smooth)
        rest = log_normal_snr(batch.tokens[rows:].shape, generator, mu=self.mu, sigma=self.sigma, per_token=self.per_token, most=self.most)
        snr = torch.where(batch.eligible, torch.cat([ends, rest]), self.snr_max)
        return snr, torch.randn(*shape, self.code_dim, device=batch.tokens.device, generator=generator)
