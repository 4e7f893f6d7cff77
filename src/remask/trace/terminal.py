"""A canvas filling in, live in a terminal; plain lines where the output is no terminal."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import groupby, pairwise
from typing import TYPE_CHECKING, Any

from remask.denoise import Step

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

BLANK = "\N{LOWER ONE EIGHTH BLOCK}"
STYLES = {"given": "dim", "masked": "bright_black", "written": "", "new": "bold green"}
PLAIN_LINES = 8
"""A decode in a pipe or a log says how far it is this often."""


def watch(
    steps: Iterable[Step], tokenizer: Any, *, title: str = "", first: int = 0, columns: int | None = None, keep: bool = True, console: Console | None = None
) -> Iterator[Step]:
    """Pass the steps on and show row 0 of each.

    first: the first position to show.  columns: positions a line, for grids.  keep: leave the last picture standing.
    console: standard output by default.
    """
    from rich.console import Console

    console = console or Console()
    if console.is_terminal:
        return _live(steps, tokenizer, title=title, first=first, columns=columns, keep=keep, console=console)
    return _plain(steps, tokenizer, title=title, first=first, console=console)


def _live(steps: Iterable[Step], tokenizer: Any, *, title: str, first: int, columns: int | None, keep: bool, console: Console) -> Iterator[Step]:
    from rich.live import Live
    from rich.text import Text

    with Live(console=console, auto_refresh=False, transient=not keep) as view:
        for number, step in enumerate(steps, start=1):
            picture = Text()
            picture.append(f"{title}\n" if title else "", style="bold")
            picture.append_text(paint(step, tokenizer, first=first, columns=columns))
            picture.append(f"\n{progress(step, number)}", style="dim")
            view.update(picture, refresh=True)
            yield step


def _plain(steps: Iterable[Step], tokenizer: Any, *, title: str, first: int, console: Console) -> Iterator[Step]:
    said = 0
    if title:
        console.print(title, markup=False, highlight=False)
    for number, step in enumerate(steps, start=1):
        written, total = counts(step)
        share = PLAIN_LINES * written // max(1, total)
        if share > said or bool(step.done[0]):
            said = PLAIN_LINES if bool(step.done[0]) else share
            text = " ".join(paint(step, tokenizer, first=first).plain.split())
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


def paint(step: Step, tokenizer: Any, *, first: int = 0, columns: int | None = None) -> Text:
    """Row 0 as coloured text: what was given is dim, what this step wrote is bright, a mask is a low bar."""
    from rich.text import Text

    canvas = step.canvas
    real = canvas.real[0].tolist()
    ids: list[int] = [index for index, kept in zip(canvas.tokens[0].tolist(), real, strict=True) if kept]
    kinds = [kind for kind, kept in zip(_kinds(step), real, strict=True) if kept]
    picture = Text()
    place = first
    for kind, run in groupby(kinds[first:]):
        count = len(list(run))
        if kind == "masked":
            spelled = [BLANK] * count
        else:
            known = [None if other == "masked" else index for index, other in zip(ids, kinds, strict=True)]
            spelled = _spelled(tokenizer, known, place, count, apart=columns is not None)
        for offset, piece in enumerate(spelled):
            if columns is not None and place + offset > first and (place + offset - first) % columns == 0:
                picture.append("\n")
            picture.append(piece, style=STYLES[kind])
        place += count
    return picture


def _kinds(step: Step) -> list[str]:
    canvas = step.canvas
    flags = zip(canvas.given[0].tolist(), canvas.masked[0].tolist(), step.edit.write[0].tolist(), strict=True)
    return ["given" if given else "masked" if masked else "new" if new else "written" for given, masked, new in flags]


def _spelled(tokenizer: Any, known: list[int | None], place: int, count: int, *, apart: bool) -> list[str]:
    """The text of `count` positions from `place`: the text up to their end less the text up to their start, since tokens share bytes and spaces."""
    bounds = range(place, place + count + 1) if apart else (place, place + count)
    texts: list[str] = [tokenizer.decode([index for index in known[:bound] if index is not None]) for bound in bounds]
    return [printable(after[len(before) :]) for before, after in pairwise(texts)]


def printable(text: str) -> str:
    """The text without control characters: a model must not steer the terminal."""
    return "".join(character if character.isprintable() or character in "\n\t" else "\N{REPLACEMENT CHARACTER}" for character in text)
