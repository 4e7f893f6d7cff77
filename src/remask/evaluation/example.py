"""One item as it is written under a setting, in a few lines: what a reader of a frontier sees behind a point."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from remask.denoise import Step
from remask.evaluation.tasks.base import Item
from remask.generate import generate
from remask.trace.file import TraceFile, read
from remask.trace.record import canvases, record

LINES = 8
BLANK = "_"
RUN = "0"


def example(model: Any, item: Item, path: Path, *, max_new_tokens: int, seed: int = 0, **parts: Any) -> str:
    """At most LINES lines, evenly over the forwards, the last one at the end: "forwards: text", a blank for every position still masked.

    path: the trace of it all, which is not made again.
    """
    if not is_whole(path):
        with TraceFile(path, model.tokenizer) as file:

            def through(steps: Iterator[Step]) -> Iterator[Step]:
                return record(steps, file, runs=[RUN], seeds=[seed], settings={name: str(part) for name, part in parts.items()})

            generate(model, [item.prompt], max_new_tokens=max_new_tokens, seed=seed, through=through, observed=True, **parts)
    trace = read(path)
    opening, events = trace.openings[RUN], trace.events[RUN]
    first = opening.tokens.index(opening.mask_id)
    seen = [(event.forwards, tokens[first:]) for event, tokens in zip(events, canvases(opening, events), strict=True)]
    last = len(seen) - 1
    shown = sorted({last - round(last * part / (LINES - 1)) for part in range(LINES)})
    return "\n".join(f"{seen[place][0]}: {spelled(model, seen[place][1])}" for place in shown)


def is_whole(path: Path) -> bool:
    """Whether the trace is there, to its end."""
    if not path.exists():
        return False
    events = read(path).events.get(RUN)
    return bool(events) and events[-1].done


def spelled(model: Any, tokens: list[int]) -> str:
    """The written stretches of a row as text, blanks between them."""
    stretches = (list(run) for _, run in groupby(tokens, key=lambda token: token == model.mask_id))
    return "".join(BLANK * len(run) if run[0] == model.mask_id else model.tokenizer.decode(run) for run in stretches).rstrip()
