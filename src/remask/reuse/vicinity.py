"""Vicinity refresh (inclusionAI/dInfer): the open block and its neighbours are computed anew."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.canvas import Canvas
from remask.citation import DINFER, Paper
from remask.errors import RemaskError
from remask.reuse.base import Pass, Reuse, Scene
from remask.reuse.blocks import Age, check_refresh, first_of


@dataclass(frozen=True)
class Vicinity(Reuse):
    """Compute the open block with `left` positions before and `right` behind it; the first `warmup` passes of a row are full.

    Full as well when a block opens, and every `refresh` passes (0: never).
    """

    left: int = 16
    right: int = 16
    warmup: int = 4
    refresh: int = 0
    stores: ClassVar[bool] = True
    covers: ClassVar[bool] = True
    papers: ClassVar[tuple[Paper, ...]] = (DINFER,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_refresh(self.refresh)
        for name in ("left", "right", "warmup"):
            if getattr(self, name) < 0:
                raise RemaskError(f"{name} is {getattr(self, name)}; it must be 0 or more")

    def init(self, canvas: Canvas) -> Age:
        return Age.start(canvas)

    def active(self, scene: Scene, state: Age) -> Tensor:
        position = torch.arange(scene.span.shape[1], device=scene.span.device)
        last = torch.where(scene.span, position, -1).amax(1, keepdim=True)
        near = (position >= first_of(scene.span)[:, None] - self.left) & (position <= last + self.right)
        return scene.canvas.real & (state.due(scene, self.refresh) | (scene.step < self.warmup)[:, None] | near)

    def observe(self, scene: Scene, made: Pass, state: Age) -> Age:
        return state.tick(scene, made.active, self.refresh)
