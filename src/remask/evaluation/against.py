"""A decoder against a frontier at equal forwards: the accuracy that the frontier has there, interpolated, on the same items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from remask.errors import RemaskError


def at_equal_forwards(
    records: Sequence[Mapping[str, Any]], frontier: Sequence[Sequence[Mapping[str, Any]]], *, draws: int = 2000, seed: int = 0
) -> tuple[float, float, float] | None:
    """Accuracy less that of the frontier at the same mean forwards, with its 95 % paired bootstrap interval; None where the frontier does not reach.

    records, frontier: `right` and `forwards` of the same items in the same order, one list a setting of the frontier. Between two settings accuracy is linear in
    the logarithm of forwards. A draw resamples items, so that the forwards of both sides vary with them.
    """
    if any([record["index"] for record in other] != [record["index"] for record in records] for other in frontier):
        raise RemaskError("the results are of other items than the frontier's; a paired comparison needs the same ones")
    if len(frontier) < 2:
        return None
    count = len(records)
    table = np.array([[record[name] for record in one] for name in ("right", "forwards") for one in (records, *frontier)], dtype=float)
    means = table.mean(1).reshape(2, -1)
    if not means[1, 1:].min() <= means[1, 0] <= means[1, 1:].max():
        return None
    drawn = (weights(count, draws, seed) @ table.T / count).reshape(draws, 2, -1)
    gaps = [difference(*mean) for mean in (means, *drawn)]
    low, high = np.quantile(gaps[1:], (0.025, 0.975))
    return gaps[0], float(low), float(high)


@lru_cache(maxsize=2)  # every setting is compared on the same items
def weights(count: int, draws: int, seed: int) -> Any:
    """(draws, count) float64: how often each of `count` items is drawn, so that sums of whole numbers are exact."""
    times = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws).astype(float)
    times.flags.writeable = False
    return times


def difference(rights: Any, costs: Any) -> float:
    """The first setting's accuracy less that of the others (all (1 + k,)) at its forwards."""
    order = np.argsort(costs[1:], kind="stable") + 1
    return float(rights[0] - np.interp(np.log(costs[0]), np.log(costs[order]), rights[order]))
