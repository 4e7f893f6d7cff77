"""The points of a frontier: what each is, which are kept, and what they amount to."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from remask.errors import RemaskError

LOSS = 0.01
"""The accuracy that a setting may lose to be listed in the table of losses."""


@dataclass(frozen=True)
class Point:
    """One setting on the reported split, its example the first item while it is written. Differences are of accuracy, with 95 % paired bootstrap intervals.

    positions: computed a row.  lost: against one token per forward.  gained: against the static threshold's frontier at equal forwards, None outside it.
    kept: the accuracy on the split that settings are chosen on, less that of one token per forward.
    """

    decoder: str
    spec: str
    accuracy: float
    interval: tuple[float, float]
    forwards: float
    tokens_per_forward: float
    example: str
    lost: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gained: tuple[float, float, float] | None = None
    kept: float = 0.0
    positions: float = 0.0


def chosen(found: dict[str, tuple[float, float]]) -> list[str]:
    """spec -> (forwards, accuracy): the settings that none with as few forwards equals or beats, fewest forwards first."""
    kept: list[str] = []
    best = -1.0
    for spec, (_, accuracy) in sorted(found.items(), key=lambda item: (item[1][0], -item[1][1])):
        if accuracy > best:
            kept.append(spec)
            best = accuracy
    return kept


def at_loss(points: Sequence[Point], loss: float = LOSS) -> dict[str, Point | None]:
    """Of each decoder the setting with the fewest forwards that kept its accuracy within `loss` where settings are chosen; None: it has none."""
    found: dict[str, Point | None] = {}
    for name in dict.fromkeys(point.decoder for point in points):
        within = [point for point in points if point.decoder == name and point.kept >= -loss - 1e-9]
        found[name] = min(within, key=lambda point: point.forwards, default=None)
    return found


def areas_of(points: Sequence[Point]) -> dict[str, float]:
    """decoder -> its area up to the most forwards of any, so that areas compare."""
    most = max([2.0, *(point.forwards for point in points)])
    return {name: area([point for point in points if point.decoder == name], most) for name in dict.fromkeys(point.decoder for point in points)}


def area(points: Sequence[Point], most: float) -> float:
    """The best accuracy within a budget, averaged over budgets from 1 to `most` forwards on a logarithmic scale."""
    if most <= 1:
        raise RemaskError(f"the largest budget is {most} forwards; an area needs more than 1")
    total, best, place = 0.0, 0.0, 0.0
    for point in sorted(points, key=lambda point: point.forwards):
        here = min(max(math.log(max(point.forwards, 1.0)), place), math.log(most))
        total += best * (here - place)
        place, best = here, max(best, point.accuracy)
    return (total + best * (math.log(most) - place)) / math.log(most)
