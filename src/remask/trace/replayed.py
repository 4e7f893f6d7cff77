"""A trace in a terminal: the same picture as a live decode, from the file alone."""

from __future__ import annotations

import time
from itertools import groupby
from typing import TYPE_CHECKING, Any

from remask.trace.record import Event, Opening, Trace, canvases
from remask.trace.terminal import BLANK, STYLES, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text


def show(trace: Trace, run: str, *, console: Console, delay: float = 0.1, first: int = 0) -> None:
    """Play one row: live in a terminal with `delay` seconds between steps, one line a step elsewhere. first: the first position to show."""
    from rich.live import Live
    from rich.text import Text

    opening, events = trace.openings[run], trace.events[run]
    pictures = zip(events, canvases(opening, events), strict=True)
    title = told(opening)
    if not console.is_terminal:
        console.print(title, markup=False, highlight=False, soft_wrap=True)
        for event, tokens in pictures:
            text = " ".join(paint(trace, opening, event, tokens, first=first).plain.split())
            console.print(f"{progress(event)}: {text}", markup=False, highlight=False, soft_wrap=True)
        return
    with Live(console=console, auto_refresh=False) as view:
        for event, tokens in pictures:
            picture = Text(f"{title}\n", style="bold")
            picture.append_text(paint(trace, opening, event, tokens, first=first))
            picture.append(f"\n{progress(event)}", style="dim")
            view.update(picture, refresh=True)
            time.sleep(delay)


def told(opening: Opening) -> str:
    """What a row was decoded with, on one line."""
    return printable(", ".join([f"run {opening.run}", *(f"{key} {value}" for key, value in opening.settings.items()), f"seed {opening.seed}"]))


def progress(event: Event) -> str:
    """What a step cost and did, on one line."""
    masked_again = f", masked again {len(event.remask)}" if event.remask else ""
    return f"step {event.step + 1}, forwards {event.forwards}, positions {event.positions}, written {len(event.write)}{masked_again}"


def paint(trace: Trace, opening: Opening, event: Event, tokens: list[int], *, first: int = 0) -> Text:
    """The row as coloured text: what was given is dim, what this step wrote is bright, a mask is a low bar."""
    from rich.text import Text

    written: set[Any] = set(event.write)
    picture = Text()
    kinds = [kind(opening, place, token, written) for place, token in enumerate(tokens)]
    for name, stretch in groupby(range(first, len(tokens)), key=kinds.__getitem__):
        pieces = [BLANK if name == "masked" else trace.pieces.get(tokens[place], "") for place in stretch]
        picture.append(printable("".join(pieces)), style=STYLES[name])
    return picture


def kind(opening: Opening, place: int, token: int, written: set[Any]) -> str:
    """The style of one position."""
    if token == opening.mask_id:
        return "masked"
    if place in written:
        return "new"
    return "given" if place < len(opening.tokens) and opening.tokens[place] != opening.mask_id else "written"
