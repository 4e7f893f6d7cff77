"""A distribution of its own: a decoder, a window and a reuse rule that no file of ours names. Its entry points are written by test_plugins.py."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from remask import Canvas, Decoder, Edit, RemaskError, Reuse, View, Window
from remask.decoders.select import top
from remask.reuse.base import Scene


@dataclass(frozen=True)
class Share(Decoder):
    """Write a fixed share of what is still masked, most confident first."""

    share: float = 0.25

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.share <= 1:
            raise RemaskError(f"share is {self.share}; it must be above 0 and at most 1")

    def init(self, canvas: Canvas) -> None:
        return None

    def step(self, view: View, state: None) -> tuple[Edit, None]:
        count = (view.eligible.sum(1) * self.share).ceil().long()
        return Edit(top(view.prediction.raw.confidence, view.eligible, count), view.prediction.candidates), state


@dataclass(frozen=True)
class Leftmost(Window):
    """The first masks of a row, at most `width` of them."""

    width: int = 4

    def init(self, canvas: Canvas) -> None:
        return None

    def eligible(self, canvas: Canvas, state: None) -> Tensor:
        return canvas.masked & (canvas.masked.long().cumsum(1) <= self.width)

    def span(self, canvas: Canvas, state: None) -> Tensor:
        return self.eligible(canvas, state)


@dataclass
class Loose(Window):
    """A window that may change, which is refused."""


@dataclass(frozen=True)
class Now(Reuse):
    """Whole rows: every `every` steps, and when something was edited."""

    every: int = 2

    def active(self, scene: Scene, state: Any) -> Tensor:
        due = scene.touched.any(dim=1) | (scene.step % self.every == 0)
        return scene.canvas.real & due[:, None]
