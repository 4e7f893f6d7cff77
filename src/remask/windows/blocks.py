"""Semi-autoregressive blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor

from remask.canvas import Canvas
from remask.citation import LLADA, Paper
from remask.errors import RemaskError
from remask.windows.base import Window


@dataclass(frozen=True)
class Blocks(Window):
    """Semi-autoregressive blocks (LLaDA, arXiv 2502.09992): each row's own first unfinished block.

    Blocks count from the row's first unknown position (`origin="prompt"`) or from index 0 (`origin="canvas"`).
    lead: in a block that holds nothing but masks only the first position may be written (Fast-dLLM's Dream, for parity).
    """

    length: int = 32
    origin: Literal["prompt", "canvas"] = "prompt"
    lead: bool = False
    papers: ClassVar[tuple[Paper, ...]] = (LLADA,)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.length < 1:
            raise RemaskError(f"block length is {self.length}; it must be 1 or more")
        if self.origin not in ("prompt", "canvas"):
            raise RemaskError(f"origin is {self.origin!r}; it must be prompt or canvas")

    def init(self, canvas: Canvas) -> Tensor:
        """(B, L) int64: the block that each position belongs to."""
        rows, length = canvas.shape
        position = torch.arange(length, device=canvas.tokens.device).expand(rows, length)
        if self.origin == "prompt":
            position = position - (~canvas.given).long().argmax(dim=1, keepdim=True)
        return position.div(self.length, rounding_mode="floor")

    def eligible(self, canvas: Canvas, state: Tensor) -> Tensor:
        span = self.span(canvas, state)
        eligible = canvas.masked & span
        if not self.lead:
            return eligible
        untouched = (eligible == span).all(1, keepdim=True)
        return eligible & (~untouched | (eligible.cumsum(1) == 1))

    def span(self, canvas: Canvas, state: Tensor) -> Tensor:
        beyond = state.max() + 1
        first = torch.where(canvas.masked, state, beyond).amin(dim=1, keepdim=True)
        return canvas.real & (state == first)

    def opened(self, max_new_tokens: int, *, inside: int = 0) -> tuple[Blocks, int]:
        lacking = -(inside + max_new_tokens) % self.length if self.origin == "prompt" and max_new_tokens else 0
        return self, max_new_tokens + lacking

    def most_open(self, new: int) -> int:
        return min(new, self.length)

    def check(self, canvas: Canvas) -> None:
        """Every row's masks must fill whole blocks."""
        if self.origin == "canvas":
            return
        span = canvas.masked.long()
        ends = torch.where(canvas.masked, torch.arange(canvas.shape[1], device=span.device), -1).amax(1)
        for end, start, count in zip(ends.tolist(), span.argmax(1).tolist(), span.sum(1).tolist(), strict=True):
            new = end - start + 1
            if count and new % self.length:
                fits = [size for size in range(1, new + 1) if new % size == 0]
                remedy = " or ".join(str(size) for size in sorted(fits, key=lambda size: abs(size - self.length))[:2])
                raise RemaskError(f"block length {self.length} does not divide {new} new tokens; use {remedy}")
