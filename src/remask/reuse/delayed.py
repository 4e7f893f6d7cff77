"""Delayed: dKV-Cache-Decode (arXiv 2505.15781): a written token's keys and values are kept one pass after it was written."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from remask.canvas import Canvas
from remask.citation import Paper
from remask.reuse.base import Pass, Reuse, Scene
from remask.reuse.blocks import Age, check_refresh

PAPER = Paper("dKV-Cache: The Cache for Diffusion Language Models", "2505.15781", 2025, "Xinyin Ma and Runpeng Yu and Gongfan Fang and Xinchao Wang")


@dataclass(frozen=True)
class Delayed(Reuse):
    """Compute what is masked and what was just written; everything when a block opens and every `refresh` passes.

    The paper refreshes every 8 passes for LLaDA and every 4 for Dream.
    """

    refresh: int = 8
    stores: ClassVar[bool] = True
    covers: ClassVar[bool] = True
    papers: ClassVar[tuple[Paper, ...]] = (PAPER,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_refresh(self.refresh)

    def init(self, canvas: Canvas) -> Age:
        return Age.start(canvas)

    def active(self, scene: Scene, state: Age) -> Tensor:
        return scene.canvas.real & (state.due(scene, self.refresh) | scene.canvas.masked | scene.touched)

    def observe(self, scene: Scene, made: Pass, state: Age) -> Age:
        return state.tick(scene, made.active, self.refresh)
