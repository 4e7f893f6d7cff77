"""Selection: which eligible positions are written, given a score. Every rule is per row."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def ranked(score: Tensor, eligible: Tensor) -> tuple[Tensor, Tensor]:
    """Scores in falling order with ineligible ones last (-inf), and the order itself: (B, L) each. Lower index first on ties."""
    return score.masked_fill(~eligible, float("-inf")).sort(dim=1, descending=True, stable=True)


def unranked(keep: Tensor, order: Tensor, eligible: Tensor) -> Tensor:
    """A (B, L) choice by rank as a choice by position."""
    return torch.zeros_like(eligible).scatter(1, order, keep.expand_as(order)) & eligible


def top(score: Tensor, eligible: Tensor, count: Tensor | int) -> Tensor:
    """The `count` best eligible positions of each row; count: (B,) or a number."""
    _, order = ranked(score, eligible)
    rank = torch.arange(score.shape[1], device=score.device)[None]
    limit = count[:, None] if isinstance(count, Tensor) else count
    return unranked(rank < limit, order, eligible)


def longest_prefix(score: Tensor, eligible: Tensor, passes: Callable[[Tensor], Tensor], *, at_least: int = 1, at_most: int | None = None) -> Tensor:
    """Rank by score and keep the longest prefix whose every rank passes, at least `at_least`, at most `at_most`.

    passes: (B, L) scores in falling order -> (B, L) bool by rank.
    """
    falling, order = ranked(score, eligible)
    keep = passes(falling).long().cumprod(dim=1).bool()
    keep[:, :at_least].fill_(True)  # an assignment would bring its value from the host
    if at_most is not None:
        keep[:, at_most:].fill_(False)
    return unranked(keep, order, eligible)
