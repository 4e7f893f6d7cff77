"""Shapers: an ordered list of functions between the head and the prediction."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import Any, ClassVar, Literal, Protocol

import torch
from torch import Tensor

from remask.errors import RemaskError


class Shaper(Protocol):
    """Maps (B, L, V) logits to (B, L, V) logits, each position for itself: it may be given some positions alone, as (1, N, V).

    `draws` says that candidates are drawn, not the arg max.
    """

    @property
    def draws(self) -> bool: ...

    def __call__(self, logits: Tensor) -> Tensor: ...


COLDEST, HOTTEST = 1e-30, 1e30
"""Beyond these float32 logits, or their quotients, are infinite, and a softmax of them NaN, which no decoder ever writes: the run would not end."""


@dataclass(frozen=True)
class Temperature:
    """Divide the logits by `value` and draw; 0 keeps the arg max."""

    value: float

    def __post_init__(self) -> None:
        if not 0 <= self.value < inf:
            raise RemaskError(f"temperature is {self.value}; it must be 0 (greedy) or more, and finite")
        if self.value and not COLDEST <= self.value <= HOTTEST:
            raise RemaskError(f"temperature is {self.value}; it must be 0 (greedy), or between {COLDEST} and {HOTTEST}: float32 reaches no further")

    @property
    def draws(self) -> bool:
        """Above 0."""
        return self.value > 0

    def __call__(self, logits: Tensor) -> Tensor:
        return logits / self.value if self.value > 0 else logits


@dataclass(frozen=True)
class TopP:
    """Keep tokens while the probability before them is at most `value`: the token that crosses it stays.

    crossing="drop": it goes too, but the likeliest always stays (ReMDM's nucleus).
    """

    value: float
    crossing: Literal["keep", "drop"] = "keep"
    draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if not 0 < self.value <= 1:
            raise RemaskError(f"top_p is {self.value}; it must be above 0 and at most 1")

    def __call__(self, logits: Tensor) -> Tensor:
        ordered, order = logits.sort(dim=-1, descending=True, stable=True)
        probability = torch.softmax(ordered, dim=-1)
        beyond = probability.cumsum(-1) > self.value
        shift = 1 if self.crossing == "keep" else 0
        beyond = torch.cat([torch.zeros_like(beyond[..., :1]), beyond[..., 1 - shift : beyond.shape[-1] - shift]], dim=-1)
        removed = torch.zeros_like(beyond).scatter(-1, order, beyond)
        return logits.masked_fill(removed, float("-inf"))


@dataclass(frozen=True)
class TopK:
    """Keep the `value` largest logits of every position (ties with the last stay)."""

    value: int
    draws: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.value < 1:
            raise RemaskError(f"top_k is {self.value}; it must be 1 or more")

    def __call__(self, logits: Tensor) -> Tensor:
        last = logits.topk(min(self.value, logits.shape[-1]), dim=-1).values[..., -1:]
        return logits.masked_fill(logits < last, float("-inf"))


def sampling(temperature: float, top_p: float = 1.0, top_k: int = 0) -> tuple[Shaper, ...]:
    """The usual three controls in their usual order; temperature 0, top_p 1 and top_k 0 are off."""
    wanted: list[tuple[bool, Any, float]] = [(temperature != 0, Temperature, temperature), (top_p != 1, TopP, top_p), (top_k != 0, TopK, top_k)]
    return tuple(kind(value) for on, kind, value in wanted if on)


@dataclass(frozen=True)
class Suppress:
    """Never propose these token ids (LLaDA's `logits_eos_inf` is Suppress((eos,)))."""

    tokens: tuple[int, ...]
    draws: ClassVar[bool] = False

    def __call__(self, logits: Tensor) -> Tensor:
        outside = [token for token in self.tokens if not 0 <= token < logits.shape[-1]]
        if outside:
            raise RemaskError(f"token {outside[0]} to suppress is outside the vocabulary of {logits.shape[-1]}; use ids from 0 to {logits.shape[-1] - 1}")
        banned = torch.zeros(logits.shape[-1], dtype=torch.bool, device=logits.device)
        for token in self.tokens:
            banned[token] = True
        return logits.masked_fill(banned, float("-inf"))
