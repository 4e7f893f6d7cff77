"""What the model believes about every position, and the numbers that decoders ask of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from remask.errors import INSTEAD, RemaskError

MOST_TAKEN = 0.6
"""The share of positions up to which scores are computed apart: taking logits out is a read and a write, and a softmax with its maximum two and one."""

PART = 128
"""Entries of a part in `largest`."""


def largest(values: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """(..., V) -> the `count` largest and their places, (..., count) each: `topk`, which goes over a long row several times where this does once.

    Which of equal entries are taken, and their order, is left open, as by `topk`, but not alike.
    The largest entries lie in the `count` parts of the largest maxima, so that only those parts are sorted.
    """
    length = values.shape[-1]
    if length < 4 * count * PART:
        short = values.topk(count, dim=-1)
        return short.values, short.indices
    whole = length // PART * PART
    parts = values[..., :whole].unflatten(-1, (-1, PART)).amax(-1).topk(count, dim=-1).indices
    inside = (parts[..., None] * PART + torch.arange(PART, device=values.device)).flatten(-2)
    rest = torch.arange(whole, length, device=values.device).expand(*inside.shape[:-1], -1)
    place = torch.cat([inside, rest], dim=-1)
    best = values.gather(-1, place).topk(count, dim=-1)
    return best.values, place.gather(-1, best.indices)


@dataclass(frozen=True, eq=False)
class Belief:
    """One distribution per position. logits: (B, L, V) float32; every score is computed when first asked.

    asked: (B, L) bool, the only positions at which scores are read, None: all. Elsewhere they may be 0; `logits`, `probabilities` and `token` are whole.
    """

    logits: Tensor
    candidates: Tensor
    asked: Tensor | None = None

    def at(self, asked: Tensor) -> Belief:
        """The same, of which scores are read at the asked (B, L) positions only."""
        return replace(self, asked=asked)

    @property
    def shape(self) -> tuple[int, int, int]:
        """B, L, V."""
        rows, length, vocabulary = self.logits.shape
        return rows, length, vocabulary

    @cached_property
    def place(self) -> tuple[Tensor, ...] | None:
        """The asked positions, None for all of them: also where they are so many that taking them out would cost more than it saves."""
        if self.asked is None:
            return None
        place = self.asked.nonzero(as_tuple=True)
        if len(place[0]) == 1:  # taken twice: torch adds up a single distribution in another order than one of several
            place = tuple(at.repeat(2) for at in place)
        return None if len(place[0]) > MOST_TAKEN * self.asked.numel() else place

    @property
    def held(self) -> Tensor:
        """(N, V), logits at `place`, or all of them."""
        return self.logits if self.place is None else self.logits[self.place]

    @cached_property
    def chances(self) -> Tensor:
        """(N, V), probabilities at `place`, or all of them."""
        return self.probabilities if self.place is None else torch.softmax(self.held, dim=-1)

    def spread(self, values: Tensor) -> Tensor:
        """Numbers at `place`, (N, ...), over the canvas: (B, L, ...), 0 where nobody asked."""
        if self.place is None:
            return values
        return values.new_zeros(*self.shape[:2], *values.shape[1:]).index_put_(self.place, values)

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
        return self.spread(largest(self.chances, min(2, self.shape[-1]))[0])

    def likeliest(self, count: int) -> tuple[Tensor, Tensor]:
        """(B, L, count) each: the largest probabilities and their tokens, 0 where nobody asked."""
        values, tokens = largest(self.chances, min(count, self.shape[-1]))
        return self.spread(values), self.spread(tokens)

    @cached_property
    def height(self) -> Tensor:
        """(B, L): the largest logit."""
        return self.spread(self.held.amax(-1))

    @cached_property
    def confidence(self) -> Tensor:
        """(B, L): the largest probability."""
        return self.spread(self.chances.amax(-1))

    @cached_property
    def sampled_confidence(self) -> Tensor:
        """(B, L): the probability of the drawn candidate."""
        candidates = self.candidates if self.place is None else self.candidates[self.place]
        return self.spread(self.chances.gather(-1, candidates[..., None])[..., 0])

    @property
    def margin(self) -> Tensor:
        """(B, L): largest minus second largest probability."""
        return self.top_two[..., 0] - self.top_two[..., -1]

    @cached_property
    def entropy(self) -> Tensor:
        """(B, L): in nats."""
        return self.spread(torch.special.entr(self.chances).sum(-1))


Places = tuple[Tensor, ...] | None
"""Rows and positions, (N,) int64 each; None: all."""


class Source:
    """Beliefs that are made when they are read: `make` gives raw logits, shaped ones (maybe the same tensor) and candidates, (N, ...) at some places or (B, L, ...) at all."""

    def __init__(self, make: Callable[[Places], tuple[Tensor, Tensor, Tensor]]) -> None:
        self.make = make
        self.last: tuple[Tensor, Places, tuple[Tensor, Tensor, Tensor]] | None = None

    @cached_property
    def whole(self) -> tuple[Tensor, Tensor, Tensor]:
        """Of all positions."""
        return self.make(None)

    @property
    def read_whole(self) -> bool:
        """Whether somebody has read all positions."""
        return "whole" in vars(self)

    def at(self, asked: Tensor) -> tuple[Places, tuple[Tensor, Tensor, Tensor]]:
        """Of the asked (B, L) positions, and where these are; once for raw and shaped."""
        if self.last is None or self.last[0] is not asked:
            place = asked.nonzero(as_tuple=True)
            if len(place[0]) == 1:  # twice, see Belief.place
                place = tuple(at.repeat(2) for at in place)
            self.last = asked, place, self.make(place)
        return self.last[1:]


class Unread(Belief):
    """A belief that is computed when it is read, at every position. kind: 0 for raw, 1 for shaped."""

    def __init__(self, source: Source, kind: int) -> None:
        vars(self).update(source=source, kind=kind)  # fields of a frozen class
        self.source: Source
        self.kind: int

    @cached_property
    def logits(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """(B, L, V)."""
        return self.source.whole[self.kind]

    @cached_property
    def candidates(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """(B, L) int64."""
        return self.source.whole[2]

    def at(self, asked: Tensor) -> Belief:
        """Computed at the asked positions alone."""
        return Read(self.source, self.kind, asked)


class Read(Unread):
    """A belief that was computed at the asked (B, L) positions; scores, candidates and `token` are 0 elsewhere, `logits` and `probabilities` are of all, when they are read."""

    def __init__(self, source: Source, kind: int, asked: Tensor) -> None:
        super().__init__(source, kind)
        place, made = source.at(asked)
        vars(self).update(asked=asked, place=place, own=made[kind], drawn=made[2])
        self.own: Tensor
        self.drawn: Tensor

    @property
    def shape(self) -> tuple[int, int, int]:
        """B, L, V."""
        assert self.asked is not None
        rows, length = self.asked.shape
        return rows, length, self.held.shape[-1]

    @property
    def held(self) -> Tensor:
        """(N, V)."""
        return self.own

    @cached_property
    def candidates(self) -> Tensor:  # pyright: ignore[reportIncompatibleVariableOverride]
        """(B, L) int64."""
        return self.spread(self.drawn)

    @cached_property
    def token(self) -> Tensor:
        """(B, L) int64."""
        return self.spread(self.held.argmax(-1))


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

    @staticmethod
    def unread(source: Source, shaped: bool, left_out: LeftOut | None = None) -> Prediction:
        """One that is made when it is read; shaped: whether the shapers change anything."""
        raw = Unread(source, 0)
        return Prediction(raw, Unread(source, 1) if shaped else raw, left_out)

    def at(self, asked: Tensor) -> Prediction:
        """The same, of which scores are read at the asked (B, L) positions only."""
        raw = self.raw.at(asked)
        return replace(self, raw=raw, shaped=raw if self.shaped is self.raw else self.shaped.at(asked))


class NoLogitsError(RemaskError):
    """A part reads logits where only numbers are kept."""


@dataclass(frozen=True, eq=False)
class Summary:
    """A belief of which only numbers are kept, (B, L) each, 0 where nobody asked: read it as a Belief. Its logits may be 0 there too.

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

    def at(self, asked: Tensor) -> Summary:
        """Itself: it was made for those who ask."""
        return self

    @property
    def top_two(self) -> Tensor:
        """(B, L, 2): the largest and the second largest probability."""
        return torch.stack([self.confidence, self.second], dim=-1)

    def likeliest(self, count: int) -> tuple[Tensor, Tensor]:
        """(B, L, count) each: the largest probabilities and their tokens."""
        return largest(self.probabilities, min(count, self.logits.shape[-1]))

    @property
    def margin(self) -> Tensor:
        """(B, L): largest minus second largest probability."""
        return self.confidence - self.second

    @property
    def height(self) -> Tensor:
        """(B, L): the largest logit."""
        return self.logits.amax(-1)

    @cached_property
    def logits(self) -> Tensor:
        """(B, L, V), computed anew."""
        if self.source is None:
            raise NoLogitsError(f"a captured run keeps no logits; to look at them {INSTEAD}")
        return self.source()

    @cached_property
    def probabilities(self) -> Tensor:
        """(B, L, V)."""
        return torch.softmax(self.logits, dim=-1)
