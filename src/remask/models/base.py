"""What a network must offer, and what all our own ones share."""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn

from remask.canvas import Canvas
from remask.errors import RemaskError
from remask.models.shadow import Shadow
from remask.models.store import Chosen, Memory, Store, aligned


class Denoiser(Protocol):
    """A masked diffusion language model, position-aligned.

    mask_id, eos_ids, max_length, vocab_size (columns of the logits); evaluations: what one forward counts.
    shift: 1 if the state at a position predicts the next one (Dream), else 0.
    """

    mask_id: int
    eos_ids: tuple[int, ...]
    max_length: int | None
    vocab_size: int
    evaluations: int
    shift: int

    def forward(self, canvas: Canvas, chosen: Chosen | None = None, store: Any = None) -> tuple[Tensor, Any]:
        """Hidden states (B, L, D), aligned with the positions they predict.

        With `chosen` (B, M): those of the chosen positions, (B, M, D), the one at i predicting i + shift, over the keys and values of
        `store` at the others; returned with the store for the next pass. The first such pass has no store and chooses every position.

        A canvas with shadows adds (B, S, D) behind them: the leave-one-out states of its S = most shadows of a row (remask.models.shadow).
        """
        ...

    def head(self, hidden: Tensor) -> Tensor:
        """(B, L, D) -> (B, L, V) float32, a new tensor that may be written over."""
        ...


class Network(nn.Module):
    """The base of the families: from tokens to logits, with `hidden` and `head` left to them.

    ragged: nothing in `hidden` is by rows but attention, so that it takes the memory of remask.models.ragged.
    lazy: the loop keeps states in place of logits, and runs the head where a decoder reads (remask.compute.Kept).
    processes: over how many it is split (remask.models.parallel).
    recorded: what Captured records of it (remask.models.bodies); None: its own forward.
    """

    evaluations = 1
    shift = 0
    ragged = False
    lazy = False
    processes = 1
    recorded: Any = None

    def __init__(self, *, mask_id: int, eos_ids: tuple[int, ...], max_length: int | None, vocab_size: int) -> None:
        super().__init__()
        self.mask_id, self.eos_ids, self.max_length, self.vocab_size = mask_id, eos_ids, max_length, vocab_size
        self.config: dict[str, Any] = {}
        self.tokenizer: Any = None

    @property
    def parts(self) -> Any:
        """The modules by their published names; "blocks" are the layers."""
        raise NotImplementedError

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        return next(self.parameters()).dtype

    def hidden(self, tokens: Tensor, real: Tensor | None, sigma: Tensor | None = None, memory: Memory | None = None) -> Tensor:
        """(B, L) tokens and their reality (None: all) -> (B, L, D), aligned with the positions they predict.

        With a memory: (B, M, D) of its chosen positions, each where it was computed.
        """
        raise NotImplementedError

    def adopt(self, start: Network) -> None:
        """Take over the weights of another network of the same shape."""
        self.load_state_dict(start.state_dict())

    def head(self, hidden: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, canvas: Canvas, chosen: Chosen | None = None, store: Store | None = None) -> tuple[Tensor, Store | None]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """See Denoiser.forward."""
        shadow = None if canvas.shadows is None else Shadow.of(canvas, self.shift)
        if chosen is None and shadow is None:
            return self.hidden(canvas.tokens, canvas.real), None
        memory = Memory(chosen or Chosen(), store, shadow=shadow, keeps=chosen is not None)
        hidden = self.hidden(canvas.tokens, canvas.real, memory=memory)
        if shadow is not None:  # of a pair only the row that predicts
            own = hidden.shape[1] - shadow.extra
            whole = hidden[:, :own] if chosen is not None else aligned(hidden[:, :own], self.shift)
            hidden = torch.cat([whole, hidden[:, own : own + shadow.count]], 1)
        return hidden, None if chosen is None else memory.store

    @torch.inference_mode()
    def logits(self, tokens: Tensor, attention_mask: Tensor | None = None, sigma: Tensor | None = None) -> Tensor:
        """(B, L) int64 -> (B, L, V) float32, raw and position-aligned. attention_mask: (B, L), 0 = padding."""
        if tokens.dim() != 2 or (tokens.numel() and not 0 <= int(tokens.min()) <= int(tokens.max()) < self.vocab_size):
            raise RemaskError(f"tokens has shape {tuple(tokens.shape)} and must be (B, L) with ids from 0 to {self.vocab_size - 1}")
        tokens = tokens.to(self.device)
        real = torch.ones_like(tokens, dtype=torch.bool) if attention_mask is None else attention_mask.to(self.device).bool()
        return self.head(self.hidden(tokens, real, sigma))


def without_mask(logits: Tensor, mask_id: int | None) -> Tensor:
    """(..., V) logits whose mask has no probability; None: as they are."""
    return logits if mask_id is None else logits.masked_fill(torch.arange(logits.shape[-1], device=logits.device) == mask_id, float("-inf"))
