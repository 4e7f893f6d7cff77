"""A canvas filling in, live in a terminal; plain lines where the output is no terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import TYPE_CHECKING, Any

from torch import Tensor

from remask.denoise import Step

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

BLANK = "\N{LOWER ONE EIGHTH BLOCK}"
STYLES = {"given": "dim", "masked": "bright_black", "written": "", "new": "bold green"}
PLAIN_LINES = 8
"""A decode in a pipe or a log says how far it is this often."""


def watch(steps: Iterable[Step], tokenizer: Any, *, title: str = "", columns: int | None = None, console: Console | None = None) -> Iterator[Step]:
    """Pass the steps on and show row 0 of each.

    columns: tokens a line, for grids.  console: standard output by default.
    """
    from rich.console import Console

    console = console or Console()
    return _live(steps, tokenizer, title, columns, console) if console.is_terminal else _plain(steps, tokenizer, title, console)


def _live(steps: Iterable[Step], tokenizer: Any, title: str, columns: int | None, console: Console) -> Iterator[Step]:
    from rich.live import Live
    from rich.text import Text

    with Live(console=console, auto_refresh=False, vertical_overflow="ellipsis") as view:
        for number, step in enumerate(steps, start=1):
            picture = Text(f"{title}\n" if title else "", style="bold")
            picture.append_text(paint(step, tokenizer, columns=columns))
            picture.append(f"\n{progress(step, number)}", style="dim")
            view.update(picture, refresh=True)
            yield step


def _plain(steps: Iterable[Step], tokenizer: Any, title: str, console: Console) -> Iterator[Step]:
    said = -1
    if title:
        console.print(title, markup=False, highlight=False)
    for number, step in enumerate(steps, start=1):
        written, total = counts(step)
        share = PLAIN_LINES * written // max(1, total)
        if share > said or bool(step.done[0]):
            said = share
            text = " ".join(paint(step, tokenizer).plain.split())
            console.print(f"{progress(step, number)}: {text}", markup=False, highlight=False, soft_wrap=True)
        yield step


def counts(step: Step) -> tuple[int, int]:
    """How many positions of row 0 are written, and how many there were to write."""
    canvas = step.canvas.rows(slice(0, 1))
    total = int((~canvas.given).sum())
    return total - int(canvas.masked.sum()), total


def progress(step: Step, number: int) -> str:
    """One line: passes and positions."""
    written, total = counts(step)
    return f"step {number}, forwards {int(step.forwards[0])}, written {written} of {total}"


def paint(step: Step, tokenizer: Any, *, columns: int | None = None) -> Text:
    """Row 0 as coloured text: what was given is dim, what this step wrote is bright, a mask is a low bar."""
    from rich.text import Text

    canvas = step.canvas
    ids = canvas.tokens[0][canvas.real[0]].tolist()
    kinds = [kind for kind, real in zip(_kinds(step), canvas.real[0].tolist(), strict=True) if real]
    picture = Text()
    place = 0
    for kind, run in groupby(kinds):
        count = len(list(run))
        spelled = [BLANK] * count if kind == "masked" else _spelled(tokenizer, ids, place, count, apart=columns is not None)
        for offset, piece in enumerate(spelled):
            if columns is not None and place + offset and (place + offset) % columns == 0:
                picture.append("\n")
            picture.append(piece, style=STYLES[kind])
        place += count
    return picture


def _kinds(step: Step) -> list[str]:
    canvas = step.canvas
    flags: list[Tensor] = [canvas.given[0], canvas.masked[0], step.edit.write[0]]
    return ["given" if given else "masked" if masked else "new" if new else "written" for given, masked, new in zip(*(flag.tolist() for flag in flags), strict=True)]


def _spelled(tokenizer: Any, ids: list[int], place: int, count: int, *, apart: bool) -> list[str]:
    """The text of ids[place:place + count]: the text up to its end less the text up to its start, since tokens share bytes and spaces."""
    bounds = range(place, place + count + 1) if apart else (place, place + count)
    texts: list[str] = [tokenizer.decode(ids[:bound]) if bound else "" for bound in bounds]
    return [printable(after[len(before) :]) for before, after in zip(texts, texts[1:], strict=False)]


def printable(text: str) -> str:
    """The text without control characters: a model must not steer the terminal."""
    return "".join(character if character.isprintable() or character in "\n\t" else "\N{REPLACEMENT CHARACTER}" for character in text)
