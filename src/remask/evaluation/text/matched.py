"""Comparison at equal entropy.

A judge rewards what is sharp, so likelihoods are only comparable at one entropy. The rule: sweep one knob of the sampler (top-p, temperature); of the
settings in order of their mean unigram entropy take the two neighbours that enclose the target, which is that of real text; interpolate every mean
linearly between them. Where the target is outside the sweep the nearest setting stands for itself, and the result says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from remask.errors import RemaskError


@dataclass(frozen=True)
class Match:
    """low, high: places in the sweep, equal where the target is outside; share: the weight of `high`; inside: whether the target is enclosed."""

    low: int
    high: int
    share: float
    inside: bool


def match(entropies: Sequence[float], target: float) -> Match:
    """The settings that enclose the target, by the rule above."""
    if not entropies:
        raise RemaskError("no settings to match; sweep at least one")
    order = sorted(range(len(entropies)), key=lambda place: entropies[place])
    for low, high in pairwise(order):
        if entropies[low] <= target <= entropies[high]:
            width = entropies[high] - entropies[low]
            return Match(low, high, (target - entropies[low]) / width if width else 0.0, True)
    end = order[0] if target < entropies[order[0]] else order[-1]
    return Match(end, end, 0.0, entropies[end] == target)


@dataclass(frozen=True, eq=False)
class Sampled:
    """Rows of one setting: (B,) unigram entropies and (B,) values of what is compared."""

    entropy: Tensor
    value: Tensor


def at_entropy(low: Sampled, high: Sampled, target: float, *, draws: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """The mean value at the target entropy, and its 95 % bootstrap interval over the rows of both settings.

    Each draw resamples the rows of each setting and interpolates anew, its weight kept within 0 and 1: the uncertainty of the entropies counts.
    """
    generator = torch.Generator().manual_seed(seed)

    def means(sampled: Sampled) -> tuple[Tensor, Tensor]:
        """(1 + draws,) mean entropies and values, the plain ones first."""
        count = len(sampled.value)
        chosen = torch.cat([torch.arange(count)[None], torch.randint(count, (draws, count), generator=generator)])
        return sampled.entropy.double().cpu()[chosen].mean(1), sampled.value.double().cpu()[chosen].mean(1)

    below, first = means(low)
    above, second = (below, first) if high is low else means(high)
    width = above - below
    share = torch.where(width.abs() > 1e-12, (target - below) / width.masked_fill(width.abs() <= 1e-12, 1.0), 0.0).clamp(0, 1)
    found = first + share * (second - first)
    ends = found[1:].quantile(torch.tensor([0.025, 0.975], dtype=torch.float64))
    return float(found[0]), float(ends[0]), float(ends[1])
