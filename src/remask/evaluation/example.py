"""One item as it is written under a setting, in a few lines: what a reader of a frontier sees behind a point."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from remask.denoise import Step
from remask.evaluation.tasks.base import Item
from remask.generate import generate

LINES = 8
BLANK = "_"


def example(model: Any, item: Item, path: Path, *, max_new_tokens: int, seed: int = 0, **parts: Any) -> str:
    """At most LINES lines, evenly over the forwards, the last one at the end: "forwards: text", a blank for every position still masked. Kept in `path`."""
    if path.exists():
        return path.read_text(encoding="utf-8")
    seen: list[tuple[int, list[int]]] = []

    def watched(steps: Iterator[Step]) -> Iterator[Step]:
        for step in steps:
            row = step.canvas.tokens[0]
            seen.append((int(step.forwards[0]), row[step.canvas.real[0] & ~step.canvas.given[0]].tolist()))
            yield step

    generate(model, [item.prompt], max_new_tokens=max_new_tokens, seed=seed, through=watched, **parts)
    last = len(seen) - 1
    shown = sorted({last - round(last * part / (LINES - 1)) for part in range(LINES)})
    text = "\n".join(f"{seen[place][0]}: {spelled(model, seen[place][1])}" for place in shown)
    path.write_text(text, encoding="utf-8")
    return text


def spelled(model: Any, tokens: list[int]) -> str:
    """The written stretches of a row as text, blanks between them."""
    stretches = (list(run) for _, run in groupby(tokens, key=lambda token: token == model.mask_id))
    return "".join(BLANK * len(run) if run[0] == model.mask_id else model.tokenizer.decode(run) for run in stretches).rstrip()
