"""`remask trace`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def run(
    files: Annotated[list[Path], typer.Argument(help="Traces that --trace wrote; the page compares the runs of all of them.")],
    row: Annotated[str, typer.Option("--run", help="The run to play; empty: the first.")] = "",
    delay: Annotated[float, typer.Option(help="Seconds between two steps in a terminal.")] = 0.1,
    html: Annotated[Path | None, typer.Option(help="Write one self-contained page instead.")] = None,
) -> None:
    """Replay a decode in the terminal, or write a page that steps through it."""
    from rich.console import Console

    from remask.errors import RemaskError
    from remask.files import write_whole
    from remask.trace.file import read
    from remask.trace.page import page
    from remask.trace.replayed import show

    if not 0 <= delay < float("inf"):
        raise RemaskError(f"delay is {delay}; use 0 or more seconds")
    traces = {str(file): read(file) for file in files}
    if html is not None:
        try:
            write_whole(html, page(traces))
        except OSError as error:
            raise RemaskError(f"cannot write {html} ({error.strerror}); name another file") from None
        return
    trace = next(iter(traces.values()))
    if not trace.openings or (row and row not in trace.openings):
        runs = ", ".join(list(trace.openings)[:9]) or "none"
        raise RemaskError(f"{files[0]} has no run {row or 'at all'!r}; it holds {runs}")
    show(trace, row or next(iter(trace.openings)), console=Console(), delay=delay)
