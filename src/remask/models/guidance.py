"""Classifier-free guidance as a denoiser around another one (LLaDA's `cfg_scale`; generate.py of ML-GSAI/LLaDA)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from remask.canvas import Canvas
from remask.errors import RemaskError


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

    def forward(self, canvas: Canvas, active: Tensor | None = None, store: Any = None) -> tuple[Tensor, Any]:
        """Both hidden states side by side, (B, L, 2 D)."""
        blind = replace(canvas, tokens=torch.where(canvas.given, self.mask_id, canvas.tokens))
        seen, store = self.model.forward(canvas, active, store)
        unseen, _ = self.model.forward(blind)
        return torch.cat([seen, unseen], dim=-1), store

    def head(self, hidden: Tensor) -> Tensor:
        """(B, L, 2 D) -> guided logits (B, L, V) float32."""
        seen, unseen = (self.model.head(half) for half in hidden.chunk(2, dim=-1))
        return unseen + (self.scale + 1) * (seen - unseen)
