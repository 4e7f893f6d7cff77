"""What a decode costs on a model that records its passes: its seconds once nothing is left to record."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from remask.errors import RemaskError

Made = TypeVar("Made")
RUNS = 6
"""Most times that something is run to be replayed: four do, unless it records more graphs, or decodes more shapes, than are kept."""

REMEDY = "leave out --captured, or try a smaller --batch; from Python a larger Captured(graphs=, sessions=) is another way"


def replayed(model: Any, run: Callable[[], Made]) -> Made:
    """What `run`, which decodes with `model`, gives. On a Captured it is run again until it has recorded nothing, so that its seconds are those of replayed passes.

    RemaskError if even the last of RUNS recorded: its seconds would stand beside others and not be theirs.
    """
    for _ in range(RUNS):
        before = slow(model)
        made = run()
        if slow(model) == before:
            return made
    raise RemaskError(f"passes were still recorded when the same was decoded for the {RUNS}th time; {REMEDY}")


def slow(model: Any) -> int:
    """See Captured.slow; 0 of another model."""
    return getattr(model, "slow", 0)
