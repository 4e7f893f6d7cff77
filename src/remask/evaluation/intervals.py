"""Confidence intervals of shares and of their differences."""

from __future__ import annotations

import random
from collections.abc import Sequence
from math import sqrt

import numpy as np

from remask.errors import RemaskError


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share, 95 % by default; (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    spread = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def paired_difference(first: Sequence[bool], second: Sequence[bool], *, draws: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """Mean difference of two shares on the same items, with its 95 % paired bootstrap interval."""
    if len(first) != len(second) or not first:
        raise RemaskError(f"{len(first)} and {len(second)} results; a paired comparison needs the same items")
    gaps = [int(a) - int(b) for a, b in zip(first, second, strict=True)]
    rng = random.Random(seed)
    means = sorted(sum(rng.choices(gaps, k=len(gaps))) / len(gaps) for _ in range(draws))
    return sum(gaps) / len(gaps), means[int(0.025 * draws)], means[int(0.975 * draws)]


def mean_interval(values: Sequence[float], *, draws: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """The mean of what was measured on independent rows, with its 95 % bootstrap interval."""
    if not values:
        raise RemaskError("no values; a mean needs one or more")
    held = np.asarray(values, dtype=np.float64)
    means = np.random.default_rng(seed).choice(held, (draws, len(held))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(held.mean()), float(low), float(high)
