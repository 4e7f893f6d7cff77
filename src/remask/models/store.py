"""Which positions a pass computes, and the keys and values it reads at the others."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Chosen:
    """The M positions that a pass computes in each of B rows.

    place: (B, M) int64, ascending; a row with fewer repeats its last one.  None: every position.
    """

    place: Tensor | None = None

    @staticmethod
    def of(active: Tensor) -> Chosen:
        """From (B, L) bool, at least one True in every row."""
        counts = active.sum(1)
        most = int(counts.max())
        if most == active.shape[1] and bool(active.all()):
            return Chosen()
        rank = torch.arange(most, device=active.device)
        order = (~active).to(torch.int8).argsort(dim=1, stable=True)
        return Chosen(order.gather(1, rank[None].minimum(counts[:, None] - 1)))

    def take(self, x: Tensor) -> Tensor:
        """(B, L, ...), or (1, L, ...) for all rows, -> (B, M, ...)."""
        if self.place is None:
            return x
        x = x.expand(self.place.shape[0], *x.shape[1:])
        place = self.place.reshape(*self.place.shape, *[1] * (x.dim() - 2))
        return x.gather(1, place.expand(*self.place.shape, *x.shape[2:]))


@dataclass(frozen=True, eq=False)
class Store:
    """keys, values: a (B, K, L, E) tensor a layer, keys rotated by their own positions.

    A pass over chosen positions writes into it, so a fork needs a copy.
    """

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]

    @property
    def nbytes(self) -> int:
        """Size in bytes: 2 B L K E a layer, times the size of a number."""
        return sum(part.numel() * part.element_size() for part in (*self.keys, *self.values))

    def rows(self, index: Tensor) -> Store:
        """The chosen rows, copied: for a new order, or when rows leave (index: (R,) int64)."""
        return Store(tuple(key[index] for key in self.keys), tuple(value[index] for value in self.values))

    def put(self, index: Tensor, part: Store) -> None:
        """Write the rows of `part` at `index`."""
        for old, new in zip((*self.keys, *self.values), (*part.keys, *part.values), strict=True):
            old[index] = new

    def copy(self) -> Store:
        """The same, sharing no memory."""
        return Store(tuple(key.clone() for key in self.keys), tuple(value.clone() for value in self.values))


class Memory:
    """One pass through the layers: each leaves its new keys and values and gets those of all positions."""

    def __init__(self, chosen: Chosen, store: Store | None) -> None:
        self.chosen, self.old = chosen, store
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    @property
    def store(self) -> Store:
        """What the next pass takes."""
        return Store(tuple(self.keys), tuple(self.values))

    def take(self, x: Tensor) -> Tensor:
        """(B, L) -> (B, M)."""
        return self.chosen.take(x)

    def exchange(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The next layer's (B, K, M, E) -> (B, K, L, E): these at the chosen positions, the stored ones at the others."""
        place, number = self.chosen.place, len(self.keys)
        if place is None:  # a store that is there already is written over: two of them would double the peak
            self.keys.append(key.contiguous() if self.old is None else self.old.keys[number].copy_(key))
            self.values.append(value.contiguous() if self.old is None else self.old.values[number].copy_(value))
            return key, value
        assert self.old is not None
        index = place[:, None, :, None].expand_as(key)
        self.keys.append(self.old.keys[number].scatter_(2, index, key))
        self.values.append(self.old.values[number].scatter_(2, index, value))
        return self.keys[-1], self.values[-1]
