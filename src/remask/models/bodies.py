"""A network as the loop of fixed shapes sees it: passes over whole rows or over M chosen positions, and the head apart."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor

from remask.canvas import Canvas
from remask.models.base import Network
from remask.models.store import Chosen, Store


class Body(Protocol):
    """`shift` as of a Denoiser. padded: some positions are not real; otherwise `canvas.real` need not be read. Nothing here waits for the device."""

    @property
    def shift(self) -> int: ...

    @property
    def compiles(self) -> bool:
        """Whether what follows the network is to be compiled as well."""
        ...

    def whole(self, canvas: Canvas, store: Any, *, stores: bool, padded: bool, only: Tensor | None = None) -> tuple[Tensor, Any]:
        """A pass over every position: states (B, L, D) by the position they predict, and the store it leaves (None unless `stores`).

        store: what an earlier pass left, to be written again, or None.  only: (B, T) int64, positions to be predicted: (B, T, D) is returned, and no other state need be made.
        """
        ...

    def chosen(self, canvas: Canvas, place: Tensor, store: Any, *, padded: bool, only: Tensor | None = None) -> Tensor:
        """States (B, M, D) of the positions `place` (B, M), each where it was computed; their keys and values are written into the store.

        only: (B, T) int64, which of the M: (B, T, D) is returned, and no other state need be made.
        """
        ...

    def head(self, hidden: Tensor) -> Tensor:
        """(..., D) -> (..., V) logits in the network's own precision."""
        ...

    def bytes_per_row(self, length: int, *, stores: bool, compares: bool) -> int | None:
        """What a row of `length` positions keeps between passes; None if that is not known."""
        ...


class Plain:
    """Any denoiser, by its own forward. With padded rows a Network waits for the device once a pass that is not recorded (`attention.placed`)."""

    compiles = False

    def __init__(self, model: Any) -> None:
        self.model = model

    @property
    def shift(self) -> int:
        return self.model.shift

    def whole(self, canvas: Canvas, store: Any, *, stores: bool, padded: bool, only: Tensor | None = None) -> tuple[Tensor, Any]:
        canvas = self.seen(canvas, padded)
        if not stores:
            hidden, store = self.model.forward(canvas)
        else:
            hidden, store = self.model.forward(canvas, Chosen(), None)
            hidden = predicting(hidden, self.shift)
        return Chosen(only).take(hidden), store

    def chosen(self, canvas: Canvas, place: Tensor, store: Any, *, padded: bool, only: Tensor | None = None) -> Tensor:
        return Chosen(only).take(self.model.forward(self.seen(canvas, padded), Chosen(place), store)[0])

    def head(self, hidden: Tensor) -> Tensor:
        return self.model.head(hidden)

    def bytes_per_row(self, length: int, *, stores: bool, compares: bool) -> int | None:
        return None

    def seen(self, canvas: Canvas, padded: bool) -> Canvas:
        """A Network need not ask the device whether all is real where that is known."""
        known = not padded and isinstance(self.model, Network)
        return replace(canvas, real=None) if known else canvas  # pyright: ignore[reportArgumentType]


def predicting(hidden: Tensor, shift: int) -> Tensor:
    """(B, L, D) as computed -> by the position they predict."""
    return hidden if shift == 0 else torch.cat([hidden[:, :shift], hidden[:, :-shift]], dim=1)


def empty_store(rows: int, length: int, layers: int, key_heads: int, head_width: int, *, dtype: torch.dtype, device: torch.device) -> Store:
    """Room for the keys and values of every position; zeros, so that what was never computed is no NaN."""
    shape = (rows, key_heads, length, head_width)
    keys, values = (tuple(torch.zeros(shape, dtype=dtype, device=device) for _ in range(layers)) for _ in range(2))
    return Store(keys, values)
