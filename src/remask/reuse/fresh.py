"""Fresh: compute everything at every step."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from remask.canvas import Canvas


@dataclass(frozen=True)
class Fresh:
    """Every real position, every step: the exact baseline."""

    def active(self, canvas: Canvas, touched: Tensor) -> Tensor:
        return canvas.real
