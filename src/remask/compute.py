"""From the positions worth computing to the logits of all: what the loop keeps between passes, and how a pass renews it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Protocol

import torch
from torch import Tensor

from remask.canvas import Canvas
from remask.errors import RemaskError
from remask.models.store import Chosen


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
    """logits: (B, L, V), the last prediction of every position, before shapers, None before the first pass.

    store: keys and values of the rows in `rows` ((R,) int64, those still running), if the reuse rule asks for them.
    """

    logits: Tensor | None = None
    store: Any = None
    rows: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Size in bytes of the predictions and of the store."""
        logits = 0 if self.logits is None else self.logits.numel() * self.logits.element_size()
        return logits + (0 if self.store is None else self.store.nbytes)

    def fork(self) -> Kept:
        """The same, to be stepped on its own: a pass writes into the store."""
        return replace(self, store=None if self.store is None else self.store.copy())

    def only(self, running: Tensor) -> Kept:
        """Without the keys and values of rows that are done; running: (B,) bool."""
        if self.rows is None:
            return self
        stay = running[self.rows]
        return self if bool(stay.all()) else replace(self, store=self.store.rows(stay.nonzero()[:, 0]), rows=self.rows[stay])


def head_of(model: Model, mask_candidates: bool) -> Head:
    """From hidden states to logits; unless a decoder asks for parity the mask is never a candidate."""
    if mask_candidates:
        return model.head
    return lambda hidden: (logits := model.head(hidden)).index_fill(-1, torch.tensor([model.mask_id], device=logits.device), float("-inf"))


def whole_rows(model: Model, canvas: Canvas, kept: Kept, active: Tensor, steps: Tensor, head: Head) -> tuple[Kept, Tensor]:
    """A plain forward of the rows with an active (B, L) position; the others keep their prediction."""
    rows = active.any(1)
    if not bool(rows.any()):
        return kept, active
    hidden, _ = model.forward(canvas.rows(rows))
    fresh = checked(head(hidden), canvas.real[rows], rows.nonzero()[:, 0], steps)
    return replace(kept, logits=put_rows(kept.logits, rows, fresh)), active


def chosen_positions(model: Model, canvas: Canvas, kept: Kept, active: Tensor, steps: Tensor, head: Head, lone: bool = False) -> tuple[Kept, Tensor]:
    """A forward of the active (B, L) positions over the stored keys and values; returns what was computed, (B, L) bool.

    A model whose logits are shifted (Dream) predicts a position from its left neighbour, which is then computed as well, unless `lone`.
    The first pass of all computes every real position.
    """
    rows = active.any(1)
    if not bool(rows.any()):
        return kept, active
    if kept.store is None:
        computed = canvas.real & rows[:, None]
    else:
        computed = active if lone else active | left_of(active, model.shift)
    index = rows.nonzero()[:, 0]
    part, real, wanted = canvas.rows(index), canvas.real[index], computed[index]
    store, place = (None, None) if kept.rows is None else owned(kept, index)
    chosen = Chosen() if bool((wanted | ~real).all()) else Chosen.of(wanted)
    hidden, store = model.forward(part, chosen, store)
    if chosen.place is None:
        fresh = checked(head(aligned(hidden, model.shift)), real, index, steps)
        if model.shift and kept.logits is not None:  # a left neighbour is computed for its keys alone: what it predicts may be frozen
            fresh = torch.where(active[index][..., None], fresh, kept.logits[index])
        logits = put_rows(kept.logits, rows, fresh)
    else:
        assert kept.logits is not None
        hidden, target = renewed(hidden, chosen.place, wanted, active[index], model.shift)
        fresh = checked(head(hidden), torch.ones_like(target, dtype=torch.bool), index, steps)
        logits = kept.logits.index_put((index[:, None], target), fresh)
    if place is None or kept.store is None:
        return Kept(logits, store, index), computed
    kept.store.put(place, store)
    return replace(kept, logits=logits), computed


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


def aligned(hidden: Tensor, shift: int) -> Tensor:
    """(B, L, D) as computed -> by the position they predict."""
    return hidden if shift == 0 else torch.cat([hidden[:, :shift], hidden[:, :-shift]], dim=1)


def renewed(hidden: Tensor, place: Tensor, computed: Tensor, active: Tensor, shift: int) -> tuple[Tensor, Tensor]:
    """Of the states (B, M, D) at `place`: those that predict an active position, (B, T, D), and these positions, (B, T).

    Every row has one: a block's first position is written by the plain pass that opens it.
    """
    if shift == 0:
        return hidden, place
    position = torch.arange(active.shape[1], device=active.device)
    source = (position - shift).clamp(min=0).expand_as(active)
    target = active & computed.gather(1, source)
    at = Chosen.of(target)
    rank = (computed.long().cumsum(1) - 1).gather(1, at.take(source))
    return Chosen(rank).take(hidden), at.take(position[None])


def put_rows(old: Tensor | None, rows: Tensor, fresh: Tensor) -> Tensor:
    """(B, L, V): `fresh` at the rows (B,) bool, the old ones or zeros at the others."""
    if bool(rows.all()):
        return fresh
    made = fresh.new_zeros(len(rows), *fresh.shape[1:]) if old is None else old.clone()
    made[rows] = fresh
    return made


def checked(logits: Tensor, real: Tensor, index: Tensor, steps: Tensor) -> Tensor:
    """The logits, or an error that names the rows with a NaN at a real position."""
    bad = (logits.amax(-1).isnan() & real).any(1)  # the largest of a row with a NaN is NaN
    if bool(bad.any()):
        rows = index[bad].tolist()
        raise RemaskError(f"NaN logits at step {int(steps[rows[0]])} in rows {rows}; check the checkpoint, or load it with dtype=float32")
    return logits
