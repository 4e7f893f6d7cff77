"""The engine's thread and the event loop: one wake-up for all rows of a request, no thread and no polling for each."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress

from remask.engine import Engine, Request, Ticket, Update

BEAT = 15.0
"""Seconds of silence after which a stream says that it lives."""


def submit_all(engine: Engine, requests: Sequence[Request]) -> list[Ticket]:
    """Tickets for all rows, or for none."""
    tickets: list[Ticket] = []
    try:
        for request in requests:
            tickets.append(engine.submit(request))
    except Exception:
        for ticket in tickets:
            ticket.cancel()
        raise
    return tickets


async def updates(tickets: Sequence[Ticket]) -> AsyncIterator[list[tuple[int, Update]]]:
    """What happened to which row, as it happens; an empty list after a while of silence. Rows are given back when the caller leaves."""
    loop, news = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(news.set)

    for ticket in tickets:
        ticket.listen(wake)
    unfinished = set(range(len(tickets)))
    try:
        while unfinished:
            with suppress(TimeoutError):
                await asyncio.wait_for(news.wait(), BEAT)
            news.clear()
            fresh = [(row, update) for row in sorted(unfinished) for update in tickets[row].take()]
            unfinished -= {row for row, update in fresh if update.done}
            yield fresh
    finally:
        for ticket in tickets:
            ticket.cancel()
