"""Leave-one-out rows: what a network would say of a place if it did not see the token that stands there."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from remask.canvas import Canvas


@dataclass(frozen=True, eq=False)
class Shadow:
    """Extra rows of a pass: each reads the mask where its place's token stands, and no real row reads it.

    A shadow of place i is a pass over i alone, with the mask in it, over the keys and values of all other places; in a model
    with shifted logits it is a pass over i and its left neighbour, which predicts it.
    place: (B, S) int64; a row with fewer repeats its last one, or place 0 if it has none.  shift: as of the model.
    """

    place: Tensor
    shift: int
    mask_id: int

    @staticmethod
    def of(canvas: Canvas, shift: int) -> Shadow:
        """Of the canvas's shadows, at least one True in some row."""
        assert canvas.shadows is not None
        return Shadow(places(canvas.shadows), shift, canvas.mask_id)

    @property
    def count(self) -> int:
        """S, the rows that predict; they come first."""
        return self.place.shape[1]

    @property
    def extra(self) -> int:
        """All rows that a shadow pass adds: the predicting ones, and in a shifted model their right neighbours, the masks."""
        return self.count * (1 + self.shift)

    @property
    def places(self) -> Tensor:
        """(B, extra) int64: where the rows stand."""
        return self.place if not self.shift else torch.cat([(self.place - self.shift).clamp(min=0), self.place], 1)

    def tokens(self, tokens: Tensor) -> Tensor:
        """(B, L) -> (B, extra): the mask at the place itself; its left neighbour keeps its token."""
        masks = torch.full_like(self.place, self.mask_id)
        if not self.shift:
            return masks
        return torch.cat([torch.where(self.place == 0, self.mask_id, tokens.gather(1, self.places[:, : self.count])), masks], 1)

    def sight(self, real: Tensor | None, length: int) -> Tensor:
        """(B, extra, length + extra) bool: which real positions and which extra rows each extra row reads."""
        rows, device = self.place.shape[0], self.place.device
        index = torch.arange(length, device=device)
        away = self.place[:, :, None] - index
        own = (away >= 0) & (away <= self.shift)
        seen = ~own if real is None else ~own & real[:, None, :]
        together = torch.eye(self.count, dtype=torch.bool, device=device).repeat(1 + self.shift, 1 + self.shift).expand(rows, -1, -1)
        if self.shift:  # the first place has no left neighbour: it predicts itself, and its second row is idle
            idle = torch.cat([torch.zeros_like(self.place), torch.ones_like(self.place)], 1).bool() & (self.place == 0).repeat(1, 2)
            together = together & ~(idle[:, None, :] & ~idle[:, :, None])
        return torch.cat([seen.repeat(1, 1 + self.shift, 1), together], 2)


def places(asked: Tensor) -> Tensor:
    """(B, L) bool, at least one True in some row -> (B, S) int64, ascending; short rows repeat their last place, empty ones place 0."""
    counts = asked.sum(1)
    rank = torch.arange(int(counts.max()), device=asked.device)
    order = (~asked).to(torch.int8).argsort(dim=1, stable=True)
    return torch.where(counts[:, None] > 0, order.gather(1, rank[None].minimum((counts[:, None] - 1).clamp(min=0))), 0)


def computed_rows(asked: Tensor, shift: int) -> Tensor:
    """(B,) int64: the rows that shadows of the asked (B, L) places add; the first place has no left neighbour."""
    return asked.sum(1) + asked[:, 1:].sum(1) * shift
