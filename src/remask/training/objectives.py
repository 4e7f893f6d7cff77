"""Losses over masked positions. The mask itself is never predicted (SUBS), unmasked positions cost nothing."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Weighting = Literal["elbo", "flat"]


def cross_entropy(logits: Tensor, tokens: Tensor, mask_id: int) -> Tensor:
    """(B, L) nats under logits (B, L, V) with the mask's column removed."""
    logits = logits.float()
    forbidden = torch.arange(logits.shape[-1], device=logits.device) == mask_id
    return functional.cross_entropy(logits.masked_fill(forbidden, float("-inf")).flatten(0, 1), tokens.flatten(), reduction="none").view_as(tokens)


def reduce(losses: Tensor, masked: Tensor, eligible: Tensor, times: Tensor, weighting: Weighting, weights: Tensor | None = None) -> Tensor:
    """The scalar loss.

    elbo: each masked position weighted by 1 / t, over all eligible ones: the negative ELBO per token of the log-linear
    schedule (MDLM, eq. 10; LLaDA, eq. 3). flat: the mean over masked positions, which has far less variance.
    weights: (B, L), optional importance of each position.
    """
    weight = masked.float() if weights is None else masked * weights
    if weighting == "elbo":
        return (losses * weight / times[:, None]).sum() / eligible.sum().clamp(min=1)
    return (losses * weight).sum() / weight.sum().clamp(min=1)
