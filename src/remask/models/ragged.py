"""A network that computes no padding: rows of several lengths are one row to it, but for attention."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from remask.canvas import Canvas
from remask.kernels.attention import attend
from remask.models.base import Network
from remask.models.store import Chosen, Memory, aligned


class Unpadded:
    """`model` in passes over whole rows that compute no padding; equal to it up to rounding. Other passes are the model's own."""

    def __init__(self, model: Network) -> None:
        self.model, self.head = model, model.head
        self.mask_id, self.eos_ids, self.max_length = model.mask_id, model.eos_ids, model.max_length
        self.evaluations, self.shift = model.evaluations, model.shift

    def forward(self, canvas: Canvas, chosen: Chosen | None = None, store: Any = None) -> tuple[Tensor, Any]:
        """See Denoiser.forward."""
        if chosen is not None or canvas.shadows is not None or bool(canvas.real.all()):
            return self.model.forward(canvas, chosen, store)
        rows = Ragged(canvas.real)
        return aligned(rows.spread(self.model.hidden(canvas.tokens, canvas.real, memory=rows)), self.model.shift), None


def unpadded(model: Any) -> Any:
    """The model without padding where that pays: on a CPU. A GPU has time for it, and none for the small kernels that rows apart would be."""
    return Unpadded(model) if isinstance(model, Network) and model.ragged and model.device.type == "cpu" else model


class Ragged(Memory):
    """A pass over the T real positions of B rows, (1, T, ...), rows of one length behind one another; attention sees a row at a time. Nothing is kept.

    real: (B, L) bool, of which it waits for the counts.
    """

    def __init__(self, real: Tensor) -> None:
        super().__init__(Chosen(), None, keeps=False)
        self.shape = real.shape
        lengths, order = real.sum(1).sort()
        row, column = real[order].nonzero(as_tuple=True)
        self.place = order[row] * real.shape[1] + column
        sizes, counts = lengths.unique_consecutive(return_counts=True)
        self.bundles = [(count, size) for count, size in zip(counts.tolist(), sizes.tolist(), strict=True) if size]

    def enter(self, tokens: Tensor, place: Tensor) -> tuple[Tensor, Tensor]:
        """(B, L) -> (1, T)."""
        return tokens.flatten()[self.place][None], place.expand(self.shape).flatten()[self.place][None]

    def mix(self, query: Tensor, key: Tensor, value: Tensor, real: Tensor | None) -> Tensor:
        """(1, H, T, E) -> (1, T, H * E)."""
        pieces = (part[0].split([count * size for count, size in self.bundles], 1) for part in (query, key, value))
        mixed = []
        for bundle, parts in zip(self.bundles, zip(*pieces, strict=True), strict=True):
            own_query, own_key, own_value = (part.unflatten(1, bundle).transpose(0, 1) for part in parts)
            mixed.append(attend(own_query, own_key, own_value, None).flatten(0, 1))
        return torch.cat(mixed)[None]

    def spread(self, x: Tensor) -> Tensor:
        """(1, T, D) -> (B, L, D), zeros where nothing is real."""
        rows, length = self.shape
        wide = x.new_zeros(rows * length, x.shape[2])
        wide[self.place] = x[0]
        return wide.view(rows, length, -1)
