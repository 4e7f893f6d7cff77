"""What a network remembers of its positions: keys and values of every layer, and the last hidden state of each."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Store:
    """keys, values: a (B, K, L, E) tensor a layer, keys rotated.  hidden: (B, L, D), what the head reads, aligned with the positions it predicts."""

    keys: tuple[Tensor, ...]
    values: tuple[Tensor, ...]
    hidden: Tensor

    @property
    def nbytes(self) -> int:
        """Size in bytes: 2 layers B K L E of keys and values, and B L D of hidden states."""
        return sum(part.numel() * part.element_size() for part in (*self.keys, *self.values, self.hidden))

    def rows(self, index: Tensor) -> Store:
        """The chosen rows, copied: for a fork, a new order, or rows that leave (index: (R,) int64, or (B,) bool)."""
        return Store(tuple(key[index] for key in self.keys), tuple(value[index] for value in self.values), self.hidden[index])

    def put(self, index: Tensor, part: Store) -> Store:
        """A store in which the chosen rows are those of `part`."""
        pairs = [*zip(self.keys, part.keys, strict=True), *zip(self.values, part.values, strict=True), (self.hidden, part.hidden)]
        made = [old.index_put((index,), new) for old, new in pairs]
        count = len(self.keys)
        return Store(tuple(made[:count]), tuple(made[count : 2 * count]), made[-1])


@dataclass(frozen=True, eq=False)
class Chosen:
    """The M positions that a pass computes in each of B rows.

    place: (B, M) int64; a row with fewer repeats its last one.
    """

    place: Tensor

    @staticmethod
    def of(active: Tensor) -> Chosen | None:
        """From (B, L) bool; None where every position is chosen. A row with none computes its position 0, to no effect."""
        counts = active.sum(1)
        most = int(counts.max())
        if most == active.shape[1] and bool(active.all()):
            return None
        rank = torch.arange(max(1, most), device=active.device)
        order = (~active).to(torch.int8).argsort(dim=1, stable=True)
        return Chosen(order.gather(1, rank[None].minimum((counts[:, None] - 1).clamp(min=0))))

    def take(self, x: Tensor) -> Tensor:
        """(B, L), or (1, L) for all rows, -> (B, M)."""
        return x.expand(self.place.shape[0], -1).gather(1, self.place)

    def write(self, old: Tensor, new: Tensor, dim: int) -> Tensor:
        """`old` (B, L, ...) or (B, K, L, E) with the chosen positions replaced along `dim`; repeated places hold equal values."""
        shape = [1] * old.dim()
        shape[0], shape[dim] = self.place.shape
        index = self.place.view(shape).expand(new.shape)
        return old.scatter(dim, index, new)


class Memory:
    """One pass over chosen positions: takes what they read, and gathers what the next pass will need.

    chosen: None computes every position.  store: None where nothing was kept before.
    """

    def __init__(self, chosen: Chosen | None, store: Store | None) -> None:
        self.chosen, self.store = chosen, store
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    def take(self, x: Tensor) -> Tensor:
        """(B, L) -> (B, M)."""
        return x if self.chosen is None else self.chosen.take(x)

    def layer(self, number: int) -> LayerMemory:
        """The part of one layer."""
        return LayerMemory(self, number)

    def finish(self, hidden: Tensor) -> Store:
        """The store after the pass; hidden: (B, M, D) of the chosen positions."""
        if self.chosen is not None and self.store is not None:
            hidden = self.chosen.write(self.store.hidden, hidden, 1)
        return Store(tuple(self.keys), tuple(self.values), hidden)


@dataclass(frozen=True, eq=False)
class LayerMemory:
    """A layer's share of a Memory."""

    memory: Memory
    number: int

    def exchange(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """(B, K, M, E) new keys and values -> (B, K, L, E): these at the chosen positions, the stored ones at the others."""
        memory = self.memory
        if memory.chosen is not None and memory.store is not None:
            key = memory.chosen.write(memory.store.keys[self.number], key, 2)
            value = memory.chosen.write(memory.store.values[self.number], value, 2)
        memory.keys.append(key)
        memory.values.append(value)
        return key, value
