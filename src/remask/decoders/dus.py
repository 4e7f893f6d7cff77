"""DUS, the dilated unmasking schedule (arXiv 2506.19037): what is written together stands far apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional

from remask.canvas import Canvas, Edit
from remask.citation import Paper
from remask.decoders.base import Decoder, View
from remask.decoders.select import ranked
from remask.errors import RemaskError

PAPER = Paper("Plan for Speed: Dilated Scheduling for Masked Diffusion Language Models", "2506.19037", 2025, "Omer Luxembourg and Haim Permuter and Eliya Nachmani")


def groups(length: Tensor, width: int, base: int, skip: int, merge: bool) -> Tensor:
    """(B,) block lengths -> (B, width) int64: the round of each slot 0, 1, ... of the block (slots beyond it have none: -1).

    Strides are length // base^skip, then each the one before // base, down to 1; a round takes the multiples of its stride
    that no earlier one took, what is left comes last, and empty rounds do not count.
    """
    slot = torch.arange(width, device=length.device).expand(len(length), width)
    inside = slot < length[:, None]
    group = torch.full_like(slot, -1)
    stride, rounds = length // base**skip, torch.zeros_like(length)
    while True:
        chosen = inside & (group < 0) & (slot % stride.clamp(min=1)[:, None] == 0) & (stride > 0)[:, None]
        group = torch.where(chosen, rounds[:, None], group)
        rounds = rounds + chosen.any(1)
        width_left = width // base**skip
        skip += 1
        stride = stride // base
        if width_left == 0:
            break
    left = inside & (group < 0)
    group = torch.where(left, rounds[:, None], group)
    rounds = rounds + left.any(1)
    if merge:
        last, before = (group == rounds[:, None] - 1), (group == rounds[:, None] - 2)
        small = (last.sum(1) < before.sum(1)) & (rounds >= 2)
        group = torch.where(last & small[:, None], group - 1, group)
    return group


@dataclass(frozen=True, eq=False)
class Round:
    """span: (B, L) bool, the block that the rounds belong to.  last: (B,) int64, the round that was written last, -1 at first."""

    span: Tensor
    last: Tensor


@dataclass(frozen=True)
class DUS(Decoder):
    """Round k of a block writes group k, whatever its confidence: the number of forwards is known before.

    threshold: a scheduled position below it waits for a later round, but for none after the last. A round in which everything was given is left out.
    """

    base: int = 2
    skip: int = 1
    threshold: float = 0.0
    merge_small_last: bool = False
    mask_candidates: bool = False
    papers: ClassVar[tuple[Paper, ...]] = (PAPER,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.base < 2:
            raise RemaskError(f"base is {self.base}; it must be 2 or more")
        if self.skip < 0:
            raise RemaskError(f"skip is {self.skip}; it must be 0 or more")

    def init(self, canvas: Canvas) -> Round:
        none = torch.zeros_like(canvas.given)
        return Round(none, torch.full_like(canvas.tokens[:, 0], -1))

    def step(self, view: View, state: Round) -> tuple[Edit, Round]:
        last = torch.where((view.span != state.span).any(1), -1, state.last)
        group = self.rounds(view.span)
        beyond = group.max() + 1
        waiting = torch.where(view.eligible & (group > last[:, None]), group, beyond)
        now = waiting.amin(1)
        final = ~(view.eligible & (group > now[:, None])).any(1)
        sure = view.prediction.raw.confidence >= self.threshold
        write = view.eligible & (final[:, None] | ((group <= now[:, None]) & sure))
        return Edit(write, view.prediction.candidates), Round(view.span, now)

    def rounds(self, span: Tensor) -> Tensor:
        """(B, L): the round of every position of the open block."""
        place = torch.arange(span.shape[1], device=span.device)
        first = torch.where(span, place, span.shape[1]).amin(1)
        length = torch.where(span, place + 1, 0).amax(1) - first
        table = groups(length.clamp(min=0), span.shape[1], self.base, self.skip, self.merge_small_last)
        return table.gather(1, (place - first[:, None]).clamp(min=0)).masked_fill(~span, -1)


@dataclass(frozen=True)
class Spaced(Decoder):
    """DUS's spacing around another decoder: of what it writes, best first, only positions at least `gap` apart stay.

    gap = max(min_gap, masks left * g0 // block length); g0 = 0 lets everything through.
    """

    inner: Decoder
    waits: ClassVar[bool] = True
    papers: ClassVar[tuple[Paper, ...]] = (PAPER,)
    g0: int = 8
    min_gap: int = 2

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.g0 < 0 or self.min_gap < 1:
            raise RemaskError(f"g0={self.g0}, min_gap={self.min_gap}: g0 must be 0 or more, min_gap 1 or more")

    @property
    def draws(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.draws

    @property
    def revises(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.revises

    @property
    def rescores(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.rescores

    @property
    def everywhere(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.everywhere

    @property
    def mask_candidates(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.mask_candidates

    def init(self, canvas: Canvas) -> object:
        return self.inner.init(canvas)

    def pending(self, state: object) -> Tensor | None:
        return self.inner.pending(state)

    def shadows(self, canvas: Canvas, span: Tensor, state: object) -> Tensor | None:
        return self.inner.shadows(canvas, span, state)

    def step(self, view: View, state: object) -> tuple[Edit, object]:
        edit, state = self.inner.step(view, state)
        if self.g0 == 0:
            return edit, state
        gap = (view.eligible.sum(1) * self.g0 // view.span.sum(1).clamp(min=1)).clamp(min=self.min_gap)
        return Edit(apart(edit.write, view.prediction.raw.confidence, gap), edit.tokens, edit.remask), state


def apart(write: Tensor, score: Tensor, gap: Tensor) -> Tensor:
    """(B, L) positions of `write`, best first, each at least gap (B,) from those taken before it.

    All that are the best within their gap are taken at once, since nothing that comes before them is near. As many rounds, and waits of the host, as the
    longest chain of neighbours that rule each other out: a few where scores are in no order, L / gap where they fall from one end to the other.
    """
    length = write.shape[1]
    place = torch.arange(length, device=write.device).expand_as(write)
    order = ranked(score, write)[1]
    rank = torch.empty_like(order).scatter_(1, order, place)
    reach = gap[:, None].clamp(max=length)
    low, high = (place - reach + 1).clamp(min=0), (place + reach).clamp(max=length)
    kept, left = torch.zeros_like(write), write
    while bool(left.any()):
        best = left & (rank == least(torch.where(left, rank, length), low, high))
        kept = kept | best
        taken = functional.pad(best.long().cumsum(1), (1, 0))
        left = left & (taken.gather(1, high) == taken.gather(1, low))
    return kept


def least(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """(B, L) numbers -> the least of places low <= place < high, (B, L) each, none empty: by a table of the least of every 1, 2, 4, ... places."""
    length = values.shape[1]
    levels, size = [values], 1
    while 2 * size <= length:
        after = functional.pad(levels[-1][:, size:], (0, size), value=length)
        levels.append(torch.minimum(levels[-1], after))
        size *= 2
    table = torch.stack(levels, 1).flatten(1)
    level = (high - low).double().log2().floor().long()
    return torch.minimum(table.gather(1, level * length + low), table.gather(1, level * length + high - 2**level))
