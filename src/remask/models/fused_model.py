"""A network on fused layers, for whoever takes a network: the ordinary loop and the engine."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from remask.canvas import Canvas
from remask.kernels.attention import reads_rows
from remask.models.base import Network
from remask.models.dream import Dream
from remask.models.fused import Dense, Fused
from remask.models.llada import LLaDA
from remask.models.store import Chosen, Memory, Store, aligned


class FusedModel(Network):
    """A LLaDA with rotary positions or a Dream, in passes that join its matrix products and leave out padding; equal to it up to rounding.

    The model goes on working, on the same weights; passes with shadows are its own. Padding is left out where rows are many enough for that to pay (remask.models.fused.Dense).
    To be made when the model is on its device: tables of angles are not moved with it.
    """

    forward_cost = 2048
    """See Engine: padding costs attention and copies, but no products."""

    lazy = True
    """Unless some part reads logits of the pass before: see Network."""

    def __init__(self, model: LLaDA | Dream) -> None:
        layers = Fused(model)
        super().__init__(mask_id=model.mask_id, eos_ids=model.eos_ids, max_length=model.max_length, vocab_size=model.vocab_size)
        self.own, self.layers = model, layers
        self.shift, self.papers = model.shift, model.papers
        self.config, self.tokenizer = model.config, model.tokenizer
        self.eval()

    @property
    def parts(self) -> Any:
        return self.own.parts

    @property
    def processes(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.own.processes

    @property
    def recorded(self) -> Fused:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.layers

    def hidden(self, tokens: Tensor, real: Tensor | None, sigma: Tensor | None = None, memory: Memory | None = None) -> Tensor:
        """See Network.hidden; with a memory by the model's own layers."""
        if memory is not None:
            self.layers.held.check()  # the head is theirs
            return self.own.hidden(tokens, real, sigma, memory)
        real = torch.ones_like(tokens, dtype=torch.bool) if real is None else real
        return self.forward(Canvas(tokens, real, real, self.mask_id))[0]

    def head(self, hidden: Tensor) -> Tensor:
        logits = self.layers.head(hidden)
        return logits if logits.dtype == torch.float64 else logits.float()

    def forward(self, canvas: Canvas, chosen: Chosen | None = None, store: Store | None = None) -> tuple[Tensor, Store | None]:
        """See Denoiser.forward."""
        if canvas.shadows is not None:
            return super().forward(canvas, chosen, store)
        place = None if chosen is None else chosen.place
        padded = not bool(canvas.real.all())
        canvas = replace(canvas, real=canvas.real.contiguous())
        if chosen is not None:
            store = self.layers.empty(*canvas.shape) if store is None else in_order(store)
        dense = self.dense(canvas, place, padded, stores=store is not None)
        apart = dense is not None and dense.ends is not None
        hidden = self.layers.through(canvas, place, store, padded=padded or apart, dense=dense)
        return (aligned(hidden, self.shift), None) if chosen is None else (hidden, store)

    def dense(self, canvas: Canvas, place: Tensor | None, padded: bool, *, stores: bool) -> Dense | None:
        """The positions to be computed: real ones and, where logits are shifted, what stands before one; of chosen ones each once.

        Rows that attention may read behind one another it reads so without padding too: a row alone then goes through the same kernel as among others.
        """
        if place is not None:
            return Dense.of(torch.cat([torch.ones_like(place[:, :1], dtype=torch.bool), place[:, 1:] != place[:, :-1]], 1))
        layers = self.layers
        sees = self.shift == 0 and not stores and reads_rows(layers.last, layers.heads, layers.key_heads, layers.head_width)
        if sees or not padded:
            return Dense.of(canvas.real, sees=True) if sees else None
        ahead = torch.cat([canvas.real[:, self.shift :], torch.zeros_like(canvas.real[:, : self.shift])], 1)
        return Dense.of(canvas.real | ahead)


def in_order(store: Store) -> Store:
    """The store as kernels write it: rows that were cut to a shorter canvas lie apart in memory."""
    keys, values = (tuple(part.contiguous() for part in parts) for parts in (store.keys, store.values))
    return Store(keys, values)
