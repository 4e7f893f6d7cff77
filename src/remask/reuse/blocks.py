"""When the rules that live from block to block compute everything anew."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from remask.canvas import Canvas
from remask.errors import RemaskError
from remask.reuse.base import Scene


@dataclass(frozen=True, eq=False)
class Age:
    """first: (B,) int64, the first position of the last pass's block, -1 before.  passes: (B,) int64 since the last full one."""

    first: Tensor
    passes: Tensor

    @staticmethod
    def start(canvas: Canvas) -> Age:
        """Before the first pass."""
        none = canvas.tokens.new_full((canvas.shape[0],), -1)
        return Age(none, torch.zeros_like(none))

    def due(self, scene: Scene, every: int) -> Tensor:
        """(B, 1) bool: a block opens, or `every` passes have gone by since the last full one (0: only when a block opens)."""
        opens = first_of(scene.span) != self.first
        return (opens | (self.passes >= every) if every else opens)[:, None]

    def tick(self, scene: Scene, active: Tensor, every: int) -> Age:
        """After a pass over the active (B, L) positions; a row that computed nothing made none."""
        made, passes = active.any(1), torch.where(self.due(scene, every)[:, 0], 1, self.passes + 1)
        return Age(torch.where(made, first_of(scene.span), self.first), torch.where(made, passes, self.passes))


def first_of(span: Tensor) -> Tensor:
    """(B,) int64: the first position of a (B, L) span."""
    return span.int().argmax(1)


def check_refresh(refresh: int) -> None:
    """Raise unless refresh is 0 or positive."""
    if refresh < 0:
        raise RemaskError(f"refresh is {refresh}; it must be 0 (only when a block opens) or a number of passes")
