"""Which positions a pass computes, and the keys and values it reads at the others."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from remask.kernels.attention import attend
from remask.models.shadow import Shadow


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


def aligned(hidden: Tensor, shift: int) -> Tensor:
    """(B, L, D) as computed -> by the position they predict."""
    return hidden if shift == 0 else torch.cat([hidden[:, :shift], hidden[:, :-shift]], dim=1)


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
        return self._of(lambda part: part[index])

    def resized(self, length: int) -> Store:
        """For `length` positions: cut at the end, or padded there with zeros, which nobody reads."""
        return self._of(lambda part: part[:, :, :length] if part.shape[2] >= length else functional.pad(part, (0, 0, 0, length - part.shape[2])))

    @staticmethod
    def joined(stores: Sequence[Store], length: int) -> Store:
        """Rows below one another, for `length` positions."""
        same = [store.resized(length) for store in stores]
        keys, values = ((torch.cat(parts) for parts in zip(*layers, strict=True)) for layers in ([store.keys for store in same], [store.values for store in same]))
        return Store(tuple(keys), tuple(values))

    def put(self, index: Tensor, part: Store) -> None:
        """Write the rows of `part` at `index`."""
        for old, new in zip((*self.keys, *self.values), (*part.keys, *part.values), strict=True):
            old[index] = new

    def copy(self) -> Store:
        """The same, sharing no memory."""
        return self._of(Tensor.clone)

    def _of(self, change: Callable[[Tensor], Tensor]) -> Store:
        return Store(tuple(map(change, self.keys)), tuple(map(change, self.values)))


class Memory:
    """One pass through the layers: each leaves its new keys and values and gets those of all positions.

    shadow: rows beside the chosen ones, whose keys and values nobody else reads and nothing keeps.  keeps: False for a pass that none follows.
    """

    def __init__(self, chosen: Chosen, store: Store | None, *, shadow: Shadow | None = None, keeps: bool = True) -> None:
        self.chosen, self.old, self.shadow, self.keeps = chosen, store, shadow, keeps
        self.sight: Tensor | None = None
        self.keys: list[Tensor] = []
        self.values: list[Tensor] = []

    @property
    def store(self) -> Store:
        """What the next pass takes."""
        return Store(tuple(self.keys), tuple(self.values))

    def enter(self, tokens: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """Tokens (B, L) and positions (B or 1, L) -> those of the M chosen positions, and behind them those of the shadow rows."""
        chosen, at = self.chosen.take(tokens), self.chosen.take(place)
        if self.shadow is None:
            return chosen, at
        beside = Chosen(self.shadow.places).take(place)
        return torch.cat([chosen, self.shadow.tokens(tokens)], 1), torch.cat([at.expand(len(tokens), -1), beside], 1)

    def mix(self, query: Tensor, key: Tensor, value: Tensor, real: Tensor | None) -> Tensor:
        """The next layer's attention: queries, keys and values of the rows that entered -> (B, M, H * E), shadow rows last.

        The chosen rows are mixed by a call of their own, as in a pass without shadows.
        """
        if self.shadow is None:
            return attend(query, *self.exchange(key, value), real)
        count = query.shape[2] - self.shadow.extra
        whole = self.exchange(key[:, :, :count], value[:, :, :count])
        seen = attend(query[:, :, :count], *whole, real)
        if self.sight is None:  # the same in every layer
            self.sight = self.shadow.sight(real, whole[0].shape[2])
        wide, deep = (torch.cat([part, own[:, :, count:]], 2) for part, own in zip(whole, (key, value), strict=True))
        return torch.cat([seen, attend(query[:, :, count:], wide, deep, self.sight)], 1)

    def exchange(self, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """The next layer's (B, K, M, E) -> (B, K, L, E): these at the chosen positions, the stored ones at the others."""
        place, number = self.chosen.place, len(self.keys)
        if place is None:  # a store that is there already is written over: two of them would double the peak
            if self.keeps:
                self.keys.append(key.contiguous() if self.old is None else self.old.keys[number].copy_(key))
                self.values.append(value.contiguous() if self.old is None else self.old.values[number].copy_(value))
            return key, value
        assert self.old is not None
        index = place[:, None, :, None].expand_as(key)
        self.keys.append(self.old.keys[number].scatter_(2, index, key))
        self.values.append(self.old.values[number].scatter_(2, index, value))
        return self.keys[-1], self.values[-1]
