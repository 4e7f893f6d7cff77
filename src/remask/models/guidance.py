"""Classifier-free guidance as a denoiser around another one (LLaDA's `cfg_scale`; generate.py of ML-GSAI/LLaDA)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from remask.canvas import Canvas
from remask.errors import RemaskError
from remask.models.store import Chosen


@dataclass(frozen=True, eq=False)
class Both:
    """What the seeing and the blind branch keep: one set of chosen positions serves both."""

    seen: Any
    unseen: Any

    @property
    def nbytes(self) -> int:
        return self.seen.nbytes + self.unseen.nbytes

    def rows(self, index: Tensor) -> Both:
        return Both(self.seen.rows(index), self.unseen.rows(index))

    def resized(self, length: int) -> Both:
        return Both(self.seen.resized(length), self.unseen.resized(length))

    @staticmethod
    def joined(stores: Sequence[Both], length: int) -> Both:
        seen, unseen = [store.seen for store in stores], [store.unseen for store in stores]
        return Both(seen[0].joined(seen, length), unseen[0].joined(unseen, length))

    def put(self, index: Tensor, part: Both) -> None:
        self.seen.put(index, part.seen)
        self.unseen.put(index, part.unseen)

    def copy(self) -> Both:
        return Both(self.seen.copy(), self.unseen.copy())


class Guided:
    """logits = u + (scale + 1)(c - u): c sees the canvas, u sees it with every given token masked. Two evaluations a forward."""

    def __init__(self, model: Any, scale: float) -> None:
        if not scale >= 0:
            raise RemaskError(f"cfg scale is {scale}; it must be 0 (off) or more")
        self.model, self.scale = model, scale
        self.mask_id: int = model.mask_id
        self.eos_ids: tuple[int, ...] = model.eos_ids
        self.max_length: int | None = model.max_length
        self.vocab_size: int = model.vocab_size
        self.evaluations: int = 2 * model.evaluations
        self.tokenizer: Any = getattr(model, "tokenizer", None)

    @property
    def device(self) -> torch.device | None:
        return getattr(self.model, "device", None)

    @property
    def shift(self) -> int:
        return self.model.shift

    @property
    def processes(self) -> int:
        return getattr(self.model, "processes", 1)

    def forward(self, canvas: Canvas, chosen: Chosen | None = None, store: Both | None = None) -> tuple[Tensor, Both]:
        """Both hidden states side by side, (B, L, 2 D), or (B, M, 2 D) of the chosen positions."""
        blind = replace(canvas, tokens=torch.where(canvas.given, self.mask_id, canvas.tokens))
        seen, kept = self.model.forward(canvas, chosen, None if store is None else store.seen)
        unseen, other = self.model.forward(blind, chosen, None if store is None else store.unseen)
        return torch.cat([seen, unseen], dim=-1), Both(kept, other)

    def head(self, hidden: Tensor) -> Tensor:
        """(B, L, 2 D) -> guided logits (B, L, V) float32."""
        seen, unseen = (self.model.head(half) for half in hidden.chunk(2, dim=-1))
        return unseen + (self.scale + 1) * (seen - unseen)
