"""Reuse rules: which positions are worth computing now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from torch import Tensor

from remask.canvas import Canvas, Edit
from remask.citation import Paper
from remask.part import Part
from remask.prediction import Belief, Summary

State = Any
"""A rule's own memory: None, (B,) or (B, L, ...) tensors, or a tuple or frozen dataclass of them (remask.memory)."""


@dataclass(frozen=True, eq=False)
class Scene:
    """What a rule sees before a pass.

    span: (B, L) bool, the block that is open.  touched: (B, L) bool, what was edited since it was last computed; all before the first pass.
    step: (B,) int64, passes the row has made.
    """

    canvas: Canvas
    span: Tensor
    touched: Tensor
    step: Tensor


@dataclass(frozen=True, eq=False)
class Pass:
    """What a rule sees after one. active: (B, L) bool, the positions that were to be computed.

    before: (B, L, V) raw logits as they stood before the pass, of rows that had one (`step` above 0); None if none had.  canvas: after the edit.
    """

    active: Tensor
    belief: Belief | Summary
    before: Tensor | None
    edit: Edit
    canvas: Canvas


class Reuse(Part, Protocol):
    """Which positions a pass computes; the loop adds what was edited, and serves the rest from what it stored.

    stores: the rule asks for single positions, so keys and values are kept; else a row is computed whole or not at all.
    lone: a model with shifted logits doesn't compute the left neighbours too (Fast-dLLM's Dream, for parity).
    compares: the rule reads how far posteriors moved since the pass before.
    covers: in every pass it computes all that is eligible, with every window; none of it is served from an older pass. A class that has an `active` of its own says so itself.
    waits: as of a decoder (remask.decoders.base).
    stale: what was edited need not be computed next (for parity with methods that leave it; all others are served from true keys).
    """

    papers: ClassVar[tuple[Paper, ...]] = ()
    stores: ClassVar[bool] = False
    covers: ClassVar[bool] = False

    def __init_subclass__(cls, **more: Any) -> None:
        super().__init_subclass__(**more)
        if "active" in cls.__dict__ and "covers" not in cls.__dict__:
            cls.covers = False

    @property
    def lone(self) -> bool:
        return False

    @property
    def stale(self) -> bool:
        return False

    @property
    def waits(self) -> bool:
        return False

    @property
    def compares(self) -> bool:
        return False

    def init(self, canvas: Canvas) -> State:
        """The memory before the first pass."""
        return None

    def active(self, scene: Scene, state: State) -> Tensor:
        """(B, L) bool."""
        ...

    def observe(self, scene: Scene, made: Pass, state: State) -> State:
        """The memory after a pass."""
        return state

    def protected(self, state: State) -> Tensor | None:
        """(B, L) bool: positions that no edit may change, and that a decoder sees as given; None: none."""
        return None
