"""Grids of SNRs for the SDE: increasing, from 0. Place them by the denoiser's cross-entropy over SNR; a grid that misses the low SNRs leaves a bias
that more steps do not remove (measured on an exact denoiser, docs/findings/dsl.md)."""

from __future__ import annotations

import math
from itertools import pairwise
from statistics import NormalDist

from remask.errors import RemaskError


def log_normal(points: int, mu: float, sigma: float, last: float = 40.0, first_level: float = 1e-3) -> tuple[float, ...]:
    """0, then quantiles of the log-normal law at even levels from `first_level` to that of `last`."""
    if not (sigma > 0 and 0 < last < math.inf):
        raise RemaskError(f"sigma is {sigma} and last {last}; both must be above 0, and last not infinite")
    law = NormalDist(mu, sigma)
    level_of_last = law.cdf(math.log(last))
    if not first_level < level_of_last < 1:
        raise RemaskError(
            f"last is {last}, at level {level_of_last:.3g} of the law with mu {mu} and sigma {sigma}; it must be above {first_level} and below 1: move mu towards log(last)"
        )
    return (0.0, *(math.exp(law.inv_cdf(level)) for level in evenly(points, first_level, level_of_last)))


def log_linear(points: int, first: float = 0.3, last: float = 30.0) -> tuple[float, ...]:
    """0, then even in the logarithm from `first` to `last`."""
    return (0.0, *(math.exp(value) for value in evenly(points, math.log(first), math.log(last))))


def linear(points: int, last: float = 30.0) -> tuple[float, ...]:
    """Even from 0 to `last`."""
    check_points(points)
    return tuple(last * k / (points - 1) for k in range(points))


def evenly(points: int, first: float, last: float) -> list[float]:
    """points - 1 even values from first to last; the last alone where there is one."""
    check_points(points)
    return [last - (last - first) * (points - 2 - k) / max(1, points - 2) for k in range(points - 1)]


def check_points(points: int) -> None:
    """Raise unless there is a step to make."""
    if points < 2:
        raise RemaskError(f"a grid of {points} points has no step; use 2 or more (as many forwards)")


def check_grid(grid: tuple[float, ...]) -> None:
    """Raise unless the grid rises from 0."""
    if len(grid) < 2 or grid[0] != 0 or any(not here < there < math.inf for here, there in pairwise(grid)):
        raise RemaskError(f"the grid begins with {grid[:3]}; it must begin at 0 and rise, with at least two points")
