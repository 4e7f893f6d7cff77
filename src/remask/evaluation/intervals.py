"""Confidence intervals of shares and of their differences."""

from __future__ import annotations

import random
from collections.abc import Sequence
from functools import lru_cache
from math import sqrt
from typing import Any

import numpy as np

from remask.errors import RemaskError


def wilson(successes: int, trials: int, z: float = 1.96) -> tuple[float, float]:
    """Wilson's score interval of a share, 95 % by default; (0, 1) without trials."""
    if trials == 0:
        return 0.0, 1.0
    share = successes / trials
    centre = share + z * z / (2 * trials)
    half = z * sqrt(share * (1 - share) / trials + z * z / (4 * trials * trials))
    scale = 1 + z * z / trials
    return max(0.0, (centre - half) / scale), min(1.0, (centre + half) / scale)


def paired_difference(first: Sequence[bool], second: Sequence[bool], *, draws: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """Mean difference of two shares on the same items, with its 95 % paired bootstrap interval."""
    if len(first) != len(second) or not first:
        raise RemaskError(f"{len(first)} and {len(second)} results; a paired comparison needs the same items")
    gaps = np.array(first, dtype=np.int32) - np.array(second, dtype=np.int32)
    sums = np.sort(resampled(len(gaps), draws, seed) @ gaps)
    total, low, high = (int(number) / len(gaps) for number in (gaps.sum(), sums[int(0.025 * draws)], sums[int(0.975 * draws)]))
    return total, low, high


@lru_cache(maxsize=2)  # every setting of a frontier is compared on the same items
def resampled(count: int, draws: int, seed: int) -> Any:
    """(draws, count) int32: how often each of `count` items is drawn, as random.Random(seed).choices draws them."""
    *state, place = random.Random(seed).getstate()[1]
    chance = np.random.RandomState()  # the same Mersenne Twister
    chance.set_state(("MT19937", np.array(state, dtype=np.uint32), place, 0, 0.0))
    times = np.empty((draws, count), dtype=np.int32)
    for draw in times:
        draw[:] = np.bincount((chance.random_sample(count) * count).astype(np.int64), minlength=count)
    times.flags.writeable = False
    return times


def mean_interval(values: Sequence[float], *, draws: int = 2000, seed: int = 0) -> tuple[float, float, float]:
    """The mean of what was measured on independent rows, with its 95 % bootstrap interval."""
    if not values:
        raise RemaskError("no values; a mean needs one or more")
    held = np.asarray(values, dtype=np.float64)
    means = np.random.default_rng(seed).choice(held, (draws, len(held))).mean(axis=1)
    low, high = np.quantile(means, (0.025, 0.975))
    return float(held.mean()), float(low), float(high)
