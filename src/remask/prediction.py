"""What the model believes about every position, and the numbers that decoders ask of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from remask.errors import RemaskError


@dataclass(frozen=True, eq=False)
class Belief:
    """One distribution per position. logits: (B, L, V) float32; every score is computed when first asked."""

    logits: Tensor
    candidates: Tensor

    @cached_property
    def probabilities(self) -> Tensor:
        """(B, L, V)."""
        return torch.softmax(self.logits, dim=-1)

    @cached_property
    def token(self) -> Tensor:
        """(B, L) int64: the likeliest token, the lowest id on ties."""
        return self.logits.argmax(-1)

    @cached_property
    def top_two(self) -> Tensor:
        """(B, L, 2): the largest and the second largest probability."""
        return self.probabilities.topk(min(2, self.logits.shape[-1]), dim=-1).values

    @cached_property
    def confidence(self) -> Tensor:
        """(B, L): the largest probability."""
        return self.probabilities.amax(-1)

    @cached_property
    def sampled_confidence(self) -> Tensor:
        """(B, L): the probability of the drawn candidate."""
        return self.probabilities.gather(-1, self.candidates[..., None])[..., 0]

    @property
    def margin(self) -> Tensor:
        """(B, L): largest minus second largest probability."""
        return self.top_two[..., 0] - self.top_two[..., -1]

    @cached_property
    def entropy(self) -> Tensor:
        """(B, L): in nats."""
        return torch.special.entr(self.probabilities).sum(-1)


@dataclass(frozen=True, eq=False)
class LeftOut:
    """What the model believes of single places without seeing their tokens, before the shapers.

    asked: (B, L) bool.  place: (B, S) int64, the asked places of each row.  logits: (B, S, V) float32.
    """

    asked: Tensor
    place: Tensor
    logits: Tensor

    def support(self, tokens: Tensor) -> Tensor:
        """(B, L): the probability of each asked place's token by the others; 1 at places that were not asked."""
        held = torch.softmax(self.logits, -1).gather(-1, tokens.gather(1, self.place)[..., None])[..., 0]
        found = torch.ones(self.asked.shape, dtype=held.dtype, device=held.device).scatter(1, self.place, held)
        return torch.where(self.asked, found, 1.0)


@dataclass(frozen=True, eq=False)
class Prediction:
    """The belief before (`raw`) and after (`shaped`) the shapers, and one candidate token per position.

    candidates: (B, L) int64, the arg max of `shaped`, or a draw from it.  left_out: of the places that the decoder asked for, or None.
    """

    raw: Belief | Summary
    shaped: Belief | Summary
    left_out: LeftOut | None = None

    @property
    def candidates(self) -> Tensor:
        return self.shaped.candidates

    @staticmethod
    def of(raw_logits: Tensor, shaped_logits: Tensor, candidates: Tensor, left_out: LeftOut | None = None) -> Prediction:
        raw = Belief(raw_logits, candidates)
        return Prediction(raw, raw if shaped_logits is raw_logits else Belief(shaped_logits, candidates), left_out)


class NoLogitsError(RemaskError):
    """A part reads logits where only numbers are kept."""


@dataclass(frozen=True, eq=False)
class Summary:
    """A belief of which only numbers are kept, (B, L) each, 0 where nobody asked: read it as a Belief.

    moved: KL(now || the pass before) in nats, if a part compares.  source: gives the logits while the pass lasts; None afterwards.
    """

    token: Tensor
    candidates: Tensor
    confidence: Tensor
    second: Tensor
    sampled_confidence: Tensor
    entropy: Tensor
    moved: Tensor | None = None
    source: Callable[[], Tensor] | None = None

    @property
    def top_two(self) -> Tensor:
        """(B, L, 2): the largest and the second largest probability."""
        return torch.stack([self.confidence, self.second], dim=-1)

    @property
    def margin(self) -> Tensor:
        """(B, L): largest minus second largest probability."""
        return self.confidence - self.second

    @cached_property
    def logits(self) -> Tensor:
        """(B, L, V), computed anew."""
        if self.source is None:
            raise NoLogitsError("a captured run keeps no logits; pass the model itself, not Captured(model), to look at them")
        return self.source()

    @cached_property
    def probabilities(self) -> Tensor:
        """(B, L, V)."""
        return torch.softmax(self.logits, dim=-1)
