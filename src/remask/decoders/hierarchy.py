"""Hierarchy decoding (dInfer, arXiv 2510.08666): the best of every run of masks, so that runs split in the middle."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch.nn import functional

from remask.canvas import Canvas, Edit
from remask.citation import DINFER, Paper
from remask.decoders.base import Decoder, View
from remask.decoders.scores import support
from remask.decoders.select import top


@dataclass(frozen=True)
class Hierarchy(Decoder):
    """All above `tau`, the best of each contiguous run if above `low`, and the best of all.

    remask: dInfer's variant masks again what stands in the open block with a probability below `low`, the least likely first. Only while fewer than were
    written, so that every step makes progress; that bound is ours.
    """

    tau: float = 0.9
    low: float = 0.4
    remask: bool = False
    mask_candidates: bool = False
    papers: ClassVar[tuple[Paper, ...]] = (DINFER,)

    @property
    def revises(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.remask

    @property
    def rescores(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self.remask

    def init(self, canvas: Canvas) -> None:
        return None

    def step(self, view: View, state: None) -> tuple[Edit, None]:
        confidence, eligible = view.prediction.raw.confidence, view.eligible
        starts = eligible & ~functional.pad(eligible, (1, 0))[:, :-1]
        run = starts.long().cumsum(1)
        masked = confidence.masked_fill(~eligible, -1.0)
        highest = torch.full_like(masked, -1.0)
        highest = functional.pad(highest, (0, 1), value=-1.0).scatter_reduce(1, run, masked, "amax")
        best = eligible & (masked == highest.gather(1, run)) & (confidence > self.low)
        write = best | (eligible & (confidence > self.tau)) | top(confidence, eligible, 1)
        if not self.remask:
            return Edit(write, view.prediction.candidates), None
        held = support(view)
        again = top(-held, view.filled & (held < self.low), write.sum(1) - 1)
        return Edit(write, view.prediction.candidates, again), None
