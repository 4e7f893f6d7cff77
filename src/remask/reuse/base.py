"""Reuse rules: which positions are worth computing now."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor

from remask.canvas import Canvas


class Reuse(Protocol):
    """`active` returns (B, L) bool: the positions to compute; the loop serves the rest from what it stored."""

    def active(self, canvas: Canvas, touched: Tensor) -> Tensor:
        """touched: (B, L) bool, what was edited since it was last computed; it must be active."""
        ...
