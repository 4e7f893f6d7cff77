"""From the positions worth computing to the logits of all: what the loop keeps between passes, and how a pass renews it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

import remask.memory as memory
from remask.canvas import Canvas
from remask.errors import RemaskError
from remask.models.base import Network
from remask.models.store import Chosen, aligned


class Model(Protocol):
    """What the loop needs of a network: see remask.models.base.Denoiser for the rest."""

    @property
    def mask_id(self) -> int: ...
    @property
    def eos_ids(self) -> tuple[int, ...]: ...
    @property
    def max_length(self) -> int | None: ...
    @property
    def evaluations(self) -> int: ...
    @property
    def shift(self) -> int: ...
    def forward(self, canvas: Canvas, chosen: Chosen | None = None, store: Any = None) -> tuple[Tensor, Any]: ...
    def head(self, hidden: Tensor) -> Tensor: ...


Head = Callable[[Tensor], Tensor]


@dataclass(frozen=True, eq=False)
class Kept:
    """said: the last prediction of every position, None before the first pass: its logits (B, L, V), before shapers, or if `lazy` the states (B, L, D) that the head makes them of.

    store: keys and values of the rows in `rows` ((R,) int64, those still running), if the reuse rule asks for them.
    beside: (B, S, V), the leave-one-out logits of the last pass, if a decoder asked for shadows; no pass reads those of another.
    """

    said: Tensor | None = None
    store: Any = None
    rows: Tensor | None = None
    beside: Tensor | None = None
    lazy: bool = False

    @property
    def logits(self) -> Tensor | None:
        """(B, L, V), where they are kept."""
        return None if self.lazy else self.said

    @property
    def nbytes(self) -> int:
        """Size in bytes of the predictions and of the store."""
        said = 0 if self.said is None else self.said.numel() * self.said.element_size()
        return said + (0 if self.store is None else self.store.nbytes)

    def fork(self) -> Kept:
        """The same, to be stepped on its own: a pass writes into the store."""
        return replace(self, store=None if self.store is None else self.store.copy())

    def take(self, index: Tensor, length: int) -> Kept:
        """The chosen rows, in the order of `index` (R,) int64, on a canvas of `length` positions."""
        if self.said is None:
            return self
        said = memory.resized(self.said[index], length)
        if self.rows is None:
            return Kept(said, lazy=self.lazy)
        place = self.rows.new_full((self.said.shape[0],), -1)
        place[self.rows] = torch.arange(len(self.rows), device=place.device)
        place = place[index]
        return Kept(said, self.store.rows(place[place >= 0]).resized(length), (place >= 0).nonzero()[:, 0], lazy=self.lazy)

    @staticmethod
    def joined(parts: Sequence[Kept], counts: Sequence[int], length: int) -> Kept:
        """Rows below one another, counts[i] of them in parts[i], on a canvas of `length` positions."""
        said, lazy = memory.joined([part.said for part in parts], counts, length), any(part.lazy for part in parts)
        first = [sum(counts[:number]) for number in range(len(counts))]
        stored = [(part.store, part.rows + start) for part, start in zip(parts, first, strict=True) if part.rows is not None]
        if not stored:
            return Kept(said, lazy=lazy)
        stores, rows = zip(*stored, strict=True)
        return Kept(said, stores[0].joined(stores, length), torch.cat(rows), lazy=lazy)

    def moved(self, source: Tensor) -> Kept:
        """After positions moved, in rows that keep no keys and values: those are rotated by their old places."""
        store = None if self.store is None else self.store.resized(source.shape[1])
        return Kept(memory.moved(self.said, source, None), store, self.rows, lazy=self.lazy)

    def only(self, running: Tensor) -> Kept:
        """Without the keys and values of rows that are done; running: (B,) bool."""
        if self.rows is None:
            return self
        stay = running[self.rows]
        return self if bool(stay.all()) else replace(self, store=self.store.rows(stay.nonzero()[:, 0]), rows=self.rows[stay])


@dataclass(frozen=True)
class Manner:
    """How rows are computed: stores and lone as of a reuse rule, mask_candidates as of a decoder.  reads: some part reads the logits of the pass before."""

    stores: bool = False
    lone: bool = False
    mask_candidates: bool = False
    reads: bool = False

    def by(self, model: Any) -> Manner:
        """As far as it matters to a model: only where its head is lazy do rows that are read keep something else."""
        return self if getattr(model, "lazy", False) else replace(self, reads=False)


def compute(model: Model, canvas: Canvas, kept: Kept, active: Tensor, steps: Tensor, manner: Manner) -> tuple[Kept, Tensor]:
    """What is kept after a pass over the active (B, L) positions, and what was computed for it, (B, L) bool.  steps: (B,) int64."""
    head = head_of(model, manner.mask_candidates)
    kept = replace(kept, lazy=getattr(model, "lazy", False) and not manner.reads)
    if not manner.stores:
        return whole_rows(model, canvas, kept, active, steps, head)
    return chosen_positions(model, canvas, kept, active, steps, head, manner.lone)


def read(head: Head, said: Tensor, real: Tensor, steps: Tensor, place: tuple[Tensor, ...] | None) -> Tensor:
    """(N, V) logits of kept states (B, L, D) at `place`, (N,) each, or (B, L, V) of all; real: (B, L) bool.  steps: (B,) int64."""
    if place is None:
        return checked(head(said), real, torch.arange(len(steps), device=steps.device), steps)
    logits = head(said[place])
    return checked(logits[:, None], torch.ones_like(place[0], dtype=torch.bool)[:, None], place[0], steps)[:, 0]


def head_of(model: Model, mask_candidates: bool) -> Head:
    """From hidden states to logits; unless a decoder asks for parity the mask is never a candidate."""
    if mask_candidates:
        return model.head

    def without_mask(hidden: Tensor) -> Tensor:
        logits = model.head(hidden)
        own = isinstance(model, Network)  # its head makes new logits; what another returns may be its own
        return (logits if own else logits.clone()).index_fill_(-1, torch.full((1,), model.mask_id, device=logits.device), float("-inf"))

    return without_mask


def whole_rows(model: Model, canvas: Canvas, kept: Kept, active: Tensor, steps: Tensor, head: Head) -> tuple[Kept, Tensor]:
    """A plain forward of the rows with an active (B, L) position; the others keep their prediction."""
    rows = active.any(1)
    if not bool(rows.any()):
        return kept, active
    hidden, aside = parted(model.forward(canvas.rows(rows))[0], canvas.shape[1])
    index = rows.nonzero()[:, 0]
    fresh = checked(hidden if kept.lazy else head(hidden), canvas.real[rows], index, steps)
    beside = left_out(None, aside, index, steps, head, canvas)
    return replace(kept, said=put_rows(kept.said, index, fresh, len(rows)), beside=beside), active


def chosen_positions(model: Model, canvas: Canvas, kept: Kept, active: Tensor, steps: Tensor, head: Head, lone: bool = False) -> tuple[Kept, Tensor]:
    """A forward of the active (B, L) positions over the stored keys and values; returns what was computed, (B, L) bool.

    A model whose logits are shifted (Dream) predicts a position from its left neighbour, which is then computed as well, unless `lone`.
    Rows without a store, on their first pass, compute every real position, in a forward of their own.
    """
    rows, stored = active.any(1), torch.zeros_like(active[:, 0])
    if kept.rows is not None:
        stored[kept.rows] = True
    computed = torch.where(stored[:, None], active if lone else active | left_of(active, model.shift), canvas.real & rows[:, None])
    kept = replace(kept, beside=None)
    for index in ((rows & ~stored).nonzero()[:, 0], (rows & stored).nonzero()[:, 0]):
        if len(index):
            kept = one_pass(model, canvas, kept, index, active[index], computed[index], steps, head)
    return kept, computed


def one_pass(model: Model, canvas: Canvas, kept: Kept, index: Tensor, active: Tensor, wanted: Tensor, steps: Tensor, head: Head) -> Kept:
    """What is kept after a forward of the rows `index` (R,), of which all or none have a store; active, wanted: (R, L) bool."""
    part, real = canvas.rows(index), canvas.real[index]
    new = kept.rows is None or not bool(torch.isin(index, kept.rows).all())
    store, place = (None, None) if new else owned(kept, index)
    chosen = Chosen() if bool((wanted | ~real).all()) else Chosen.of(wanted)
    hidden, store = model.forward(part, chosen, store)
    hidden, aside = parted(hidden, canvas.shape[1] if chosen.place is None else chosen.place.shape[1])
    beside = left_out(kept.beside, aside, index, steps, head, canvas)
    if chosen.place is None:
        hidden = aligned(hidden, model.shift)
        fresh = checked(hidden if kept.lazy else head(hidden), real, index, steps)
        if model.shift and kept.said is not None and not new:  # a left neighbour is computed for its keys alone: what it predicts may be frozen
            fresh = torch.where(active[..., None], fresh, kept.said[index])
        said = put_rows(kept.said, index, fresh, canvas.shape[0])
    else:
        assert kept.said is not None
        hidden, target, told = renewed(hidden, chosen.place, wanted, active, model.shift)
        fresh = checked(hidden if kept.lazy else head(hidden), torch.ones_like(target, dtype=torch.bool), index[told], steps)
        said = kept.said.index_put((index[told][:, None], target), fresh)
    if new:
        after = added(kept, said, store, index)
    elif place is None:
        after = replace(kept, said=said, store=store, rows=index)
    else:
        kept.store.put(place, store)
        after = replace(kept, said=said)
    return replace(after, beside=beside)


def parted(hidden: Tensor, count: int) -> tuple[Tensor, Tensor | None]:
    """The states of `count` positions, and those of the shadows behind them."""
    return (hidden, None) if hidden.shape[1] == count else (hidden[:, :count], hidden[:, count:])


def left_out(before: Tensor | None, aside: Tensor | None, index: Tensor, steps: Tensor, head: Head, canvas: Canvas) -> Tensor | None:
    """(B, S, V): `before` with the leave-one-out logits of the rows `index`, from their shadow states `aside` (R, S', D)."""
    if aside is None or canvas.shadows is None:
        return before
    fresh = checked(head(aside), torch.ones(aside.shape[:2], dtype=torch.bool, device=aside.device), index, steps)
    return put_rows(before, index, memory.resized(fresh, int(canvas.shadows.sum(1).max())), canvas.shape[0])


def added(kept: Kept, said: Tensor, store: Any, index: Tensor) -> Kept:
    """With the store of rows that had none."""
    if kept.rows is None:
        return replace(kept, said=said, store=store, rows=index)
    rows, order = torch.cat([kept.rows, index]).sort()
    return replace(kept, said=said, store=store.joined([kept.store, store], said.shape[1]).rows(order), rows=rows)


def owned(kept: Kept, index: Tensor) -> tuple[Any, Tensor | None]:
    """The store of the rows `index`, and their places in the kept one; None if they are all that is kept."""
    assert kept.rows is not None
    if len(index) == len(kept.rows):
        return kept.store, None
    place = torch.searchsorted(kept.rows, index)
    return kept.store.rows(place), place


def left_of(active: Tensor, shift: int) -> Tensor:
    """(B, L) bool: the positions whose states predict the active ones."""
    return torch.cat([active[:, shift:], torch.zeros_like(active[:, :shift])], dim=1)


def renewed(hidden: Tensor, place: Tensor, computed: Tensor, active: Tensor, shift: int) -> tuple[Tensor, Tensor, Tensor | slice]:
    """Of the states (B, M, D) at `place`: those that predict an active position, (R, T, D), these positions, (R, T), and which rows have any.

    One has none where a rule that is `lone` computes single positions, such as a block of one whose first pass wrote nothing.
    """
    if shift == 0:
        return hidden, place, slice(None)
    position = torch.arange(active.shape[1], device=active.device)
    source = (position - shift).clamp(min=0).expand_as(active)
    target = active & computed.gather(1, source)
    told: Tensor | slice = slice(None)
    if not bool((some := target.any(1)).all()):
        told = some.nonzero()[:, 0]
        if not len(told):
            return hidden[:0], place[:0], told
        hidden, computed, source, target = hidden[told], computed[told], source[told], target[told]
    at = Chosen.of(target)
    rank = (computed.long().cumsum(1) - 1).gather(1, at.take(source))
    return Chosen(rank).take(hidden), at.take(position[None]), told


def put_rows(old: Tensor | None, index: Tensor, fresh: Tensor, count: int) -> Tensor:
    """(count, L, V): `fresh` at the rows `index`, the old ones or zeros at the others."""
    if len(index) == count:
        return fresh
    made = fresh.new_zeros(count, *fresh.shape[1:]) if old is None else old.clone()
    made[index] = fresh
    return made


def checked(logits: Tensor, real: Tensor, index: Tensor, steps: Tensor) -> Tensor:
    """The logits, or an error that names the rows with a NaN at a real position."""
    bad = (logits.amax(-1).isnan() & real).any(1)  # the largest of a row with a NaN is NaN
    if bool(bad.any()):
        rows = sorted(set(index[bad].tolist()))
        raise RemaskError(f"NaN logits at step {int(steps[rows[0]])} in rows {rows}; check the checkpoint, or load it with dtype=float32")
    return logits
