"""A decoder against a frontier at equal forwards: the accuracy that the frontier has there, interpolated, on the same items."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    own = np.array([(record["right"], record["forwards"]) for record in records], dtype=float)
    others = np.array([[(record["right"], record["forwards"]) for record in other] for other in frontier], dtype=float)
    weights = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), size=draws) / count
    even = np.full((1, count), 1 / count)
    costs = others[:, :, 1].mean(1)
    if not costs.min() <= own[:, 1].mean() <= costs.max():
        return None
    gaps = [difference(own, others, weight) for weight in np.concatenate([even, weights])]
    low, high = np.quantile(gaps[1:], (0.025, 0.975))
    return float(gaps[0]), float(low), float(high)


def difference(own: Any, others: Any, weight: Any) -> float:
    """Accuracy of `own` (n, 2) less that of the settings `others` (k, n, 2) at its forwards, items weighted by (n,)."""
    right, cost = weight @ own
    rights, costs = (others * weight[None, :, None]).sum(1).T
    order = np.argsort(costs, kind="stable")
    return float(right - np.interp(np.log(cost), np.log(costs[order]), rights[order]))
