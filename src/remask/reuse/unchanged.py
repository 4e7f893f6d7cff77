"""Unchanged: no forward for a row in which nothing was edited (MDLM's cached ancestral sampler, arXiv 2406.07524)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from remask.citation import MDLM, Paper
from remask.reuse.base import Reuse, Scene, State


@dataclass(frozen=True)
class Unchanged(Reuse):
    """A row is computed when one of its positions was edited, else its last prediction is served: exact."""

    papers: ClassVar[tuple[Paper, ...]] = (MDLM,)

    def active(self, scene: Scene, state: State) -> Tensor:
        return scene.canvas.real & scene.touched.any(dim=1, keepdim=True)
