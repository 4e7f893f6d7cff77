"""Every masked position."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from remask.canvas import Canvas
from remask.windows.base import Window


@dataclass(frozen=True)
class Whole(Window):
    """Every masked position of the canvas."""

    def init(self, canvas: Canvas) -> None:
        return None

    def eligible(self, canvas: Canvas, state: None) -> Tensor:
        return canvas.masked

    def span(self, canvas: Canvas, state: None) -> Tensor:
        return ~canvas.given
