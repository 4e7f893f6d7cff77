"""Fresh: compute everything at every step."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from remask.reuse.base import Reuse, Scene, State


@dataclass(frozen=True)
class Fresh(Reuse):
    """Every real position, every step: the exact baseline."""

    covers: ClassVar[bool] = True

    def active(self, scene: Scene, state: State) -> Tensor:
        return scene.canvas.real
