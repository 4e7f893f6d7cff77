"""Which rows should share a forward: padding costs computed positions, another forward costs its launch and another read of the weights."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

LARGE = 10**9
"""Weights from which on a position costs a GPU about as much as its share of a forward's launches: see docs/findings/engine.md."""


def usual_cost(model: Any) -> int:
    """The positions that one more forward is worth, unless somebody says otherwise: what the model says, else 512 on the CPU, where padding is hardly computed.

    On a GPU a forward costs the host its launches, whatever its size: 4,096 positions of a network below a billion weights; of a larger one 256, since 1,024 were slower.
    A model around another (Guided) costs as many times as much at both ends, so that it is as the one inside.
    """
    own: int | None = getattr(model, "forward_cost", None)
    if own is not None:
        return own
    if not isinstance(model, torch.nn.Module) and (inside := getattr(model, "model", None)) is not None:
        return usual_cost(inside)
    if torch.device(getattr(model, "device", None) or "cpu").type == "cpu":
        return 512
    weights = sum(parameter.numel() for parameter in model.parameters()) if isinstance(model, torch.nn.Module) else 0
    return 256 if weights >= LARGE else 4096


def packs(counts: Sequence[int], lengths: Sequence[int], forward_cost: int) -> list[list[int]]:
    """Bundles of indices that cost least: counts[i] rows of lengths[i] positions, padded to the longest of their bundle.

    forward_cost: the positions that one more forward is worth. Ordered by length, a best partition has no gaps, so this is dynamic
    programming over where a bundle ends.
    """
    order = sorted(range(len(lengths)), key=lambda index: lengths[index])
    best, cut = [0], [0]
    for end in range(1, len(order) + 1):
        longest, rows = lengths[order[end - 1]], 0
        choices: list[tuple[int, int]] = []
        for begin in range(end - 1, -1, -1):
            rows += counts[order[begin]]
            choices.append((best[begin] + forward_cost + rows * longest, begin))
        cost, begin = min(choices)
        best.append(cost)
        cut.append(begin)
    found: list[list[int]] = []
    end = len(order)
    while end:
        found.append(sorted(order[cut[end] : end]))
        end = cut[end]
    return sorted(found)
