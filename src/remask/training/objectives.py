"""Losses: over masked positions, unmasked ones costing nothing (MDLM), or over all positions (DSL and its rivals, the judge). The mask itself is never predicted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from torch import Tensor
from torch.nn import functional

from remask.channel import localise
from remask.models.base import without_mask
from remask.training.data import Batch

Weighting = Literal["elbo", "flat"]


def cross_entropy(logits: Tensor, tokens: Tensor, mask_id: int) -> Tensor:
    """(B, L) nats under logits (B, L, V) with the mask's column removed."""
    return functional.cross_entropy(without_mask(logits.float(), mask_id).flatten(0, 1), tokens.flatten(), reduction="none").view_as(tokens)


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


def eligible_mean(losses: Tensor, batch: Batch) -> Tensor:
    """The mean over all eligible positions, by their weights."""
    weight = batch.eligible.float() if batch.weights is None else batch.eligible * batch.weights
    return (losses * weight).sum() / weight.sum().clamp(min=1)


class Objective(Protocol):
    """What a network is shown of a clean batch, and the loss made of its cross-entropies (B, L). `noise` is what the recipe's corruption returned."""

    def hidden(self, model: Any, batch: Batch, noise: tuple[Tensor, ...]) -> Tensor:
        """(B, L, D): what the network makes of the corrupted batch, aligned with the positions it predicts."""
        ...

    def reduce(self, losses: Tensor, batch: Batch, noise: tuple[Tensor, ...]) -> Tensor:
        """The scalar loss, of losses (B, L) in nats."""
        ...


@dataclass(frozen=True)
class Unmasking:
    """Masked diffusion. noise: masked (B, L) bool and times (B,)."""

    weighting: Weighting = "flat"

    def hidden(self, model: Any, batch: Batch, noise: tuple[Tensor, ...]) -> Tensor:
        return model.hidden(batch.tokens.masked_fill(noise[0], model.mask_id), None)

    def reduce(self, losses: Tensor, batch: Batch, noise: tuple[Tensor, ...]) -> Tensor:
        masked, times = noise
        return reduce(losses, masked, batch.eligible, times, self.weighting, batch.weights)


@dataclass(frozen=True)
class Localising:
    """DSL: the mean cross-entropy over all eligible positions, whatever their SNR. noise: SNRs (B, L) and normals (B, L, E)."""

    def hidden(self, model: Any, batch: Batch, noise: tuple[Tensor, ...]) -> Tensor:
        return model.hidden_of(localise(model.codes, batch.tokens, *noise))

    def reduce(self, losses: Tensor, batch: Batch, noise: tuple[Tensor, ...]) -> Tensor:
        return eligible_mean(losses, batch)


@dataclass(frozen=True)
class Restoring:
    """The mean over all eligible positions of a row shown with masks and wrong tokens: what a masked network needs to correct itself. noise: shown (B, L)."""

    def hidden(self, model: Any, batch: Batch, noise: tuple[Tensor, ...]) -> Tensor:
        return model.hidden(noise[0], None)

    def reduce(self, losses: Tensor, batch: Batch, noise: tuple[Tensor, ...]) -> Tensor:
        return eligible_mean(losses, batch)


@dataclass(frozen=True)
class Predicting:
    """Autoregression: every token from those before it. noise: none."""

    def hidden(self, model: Any, batch: Batch, noise: tuple[Tensor, ...]) -> Tensor:
        return model.hidden(batch.tokens, None)

    def reduce(self, losses: Tensor, batch: Batch, noise: tuple[Tensor, ...]) -> Tensor:
        return eligible_mean(losses, batch)
