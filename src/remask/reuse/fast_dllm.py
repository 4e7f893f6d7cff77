"""Fast-dLLM's prefix and dual caches (arXiv 2505.22618, section 3.2; specs of NVlabs/Fast-dLLM v1)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from remask.canvas import Canvas
from remask.citation import FAST_DLLM, Paper
from remask.reuse.base import Pass, Reuse, Scene, State
from remask.reuse.blocks import Age, check_refresh, first_of
from remask.reuse.fresh import Fresh


@dataclass(frozen=True)
class Prefix(Reuse):
    """Compute the open block and all behind it; what stands before it keeps its keys and values until the next block opens.

    refresh: a full pass every so many passes inside a block as well; 0: never.
    compat_first_token: Dream's reference reads nothing to the left of the block (use with `blocks:...,lead=true`).
    """

    refresh: int = 0
    compat_first_token: bool = False
    stores: ClassVar[bool] = True
    covers: ClassVar[bool] = True
    papers: ClassVar[tuple[Paper, ...]] = (FAST_DLLM,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_refresh(self.refresh)

    @property
    def lone(self) -> bool:
        return self.compat_first_token

    def init(self, canvas: Canvas) -> Age:
        return Age.start(canvas)

    def active(self, scene: Scene, state: Age) -> Tensor:
        position = torch.arange(scene.span.shape[1], device=scene.span.device)
        return scene.canvas.real & (state.due(scene, self.refresh) | (position >= first_of(scene.span)[:, None]))

    def observe(self, scene: Scene, made: Pass, state: Age) -> Age:
        return state.tick(scene, made.active, self.refresh)


@dataclass(frozen=True, eq=False)
class Nested:
    """A dual cache's memory and that of the rule inside it."""

    age: Age
    inner: State


@dataclass(frozen=True)
class Dual(Reuse):
    """Compute the open block only; the rest of the canvas keeps its keys and values until the next block opens.

    refresh, compat_first_token: as of Prefix.  inner: a rule that leaves out more, e.g. surelock.
    """

    refresh: int = 0
    inner: Reuse = Fresh()
    compat_first_token: bool = False
    stores: ClassVar[bool] = True
    papers: ClassVar[tuple[Paper, ...]] = (FAST_DLLM,)

    def __post_init__(self) -> None:
        super().__post_init__()
        check_refresh(self.refresh)

    @property
    def covers(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.inner.covers

    @property
    def lone(self) -> bool:
        return self.compat_first_token

    @property
    def stale(self) -> bool:
        return self.inner.stale

    @property
    def waits(self) -> bool:
        return self.inner.waits

    @property
    def compares(self) -> bool:
        return self.inner.compares

    def init(self, canvas: Canvas) -> Nested:
        return Nested(Age.start(canvas), self.inner.init(canvas))

    def active(self, scene: Scene, state: Nested) -> Tensor:
        return self.inner.active(scene, state.inner) & (state.age.due(scene, self.refresh) | scene.span)

    def observe(self, scene: Scene, made: Pass, state: Nested) -> Nested:
        return Nested(state.age.tick(scene, made.active, self.refresh), self.inner.observe(scene, made, state.inner))

    def protected(self, state: Nested) -> Tensor | None:
        return self.inner.protected(state.inner)
