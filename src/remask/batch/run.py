"""Lines of a file through an engine, longest first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from remask.batch.lines import Settings, key, parse, request, result
from remask.batch.results import Results
from remask.engine import Engine, Request, Ticket
from remask.errors import RemaskError
from remask.trace.record import Records


@dataclass(frozen=True)
class Line:
    """A line of the input and its place in it, counted from 0."""

    index: int
    text: bytes


Work = Callable[[list[Line]], Iterator[dict[str, Any]]]
"""Takes lines and yields a record for each, in any order: `index` and a result or an `error`."""


def run(source: Path, out: Path, settings: Settings, work: Work, *, network: Mapping[str, str] | None = None, report: Callable[[int, int], None] | None = None) -> int:
    """Write a line to `out` for every line of `source` that is not blank, and return how many are errors.

    What `out` holds already is kept, if it came of these lines and settings, and of the same network, which is what `network` names it by.
    report(done, of) is called after every record.
    A file that a part of `settings` or of a line reads is read once, before the first line is decoded: `work` is to decode with these very settings.
    At the end the lines stand in the order of the input.
    """
    lines = read(source)
    with Results(out, {**(network or {}), **settings.noted()}) as results:
        keys = {line.index: key(line.text, settings) for line in lines}
        if any(keys.get(index) != known for index, known in results.done.items()):
            raise RemaskError(f"{out} holds results of other lines, or of the same while a file that they name held something else; name another file, or remove it")
        waiting = [line for line in lines if line.index not in results.done]
        for record in work(waiting):
            results.add([{**record, "key": keys[record["index"]]}])
            if report is not None:
                report(len(results.done), len(lines))
        return results.sort()


def read(source: Path) -> list[Line]:
    """The lines that are not blank."""
    try:
        return [Line(index, text) for index, text in enumerate(source.read_bytes().splitlines()) if text.strip()]
    except OSError as error:
        raise RemaskError(f"cannot read {source}: {error.strerror}; name a readable file") from None


def through(engine: Engine, lines: Sequence[Line], settings: Settings, *, trace: Records | None = None) -> Iterator[dict[str, Any]]:
    """A record for each line, as rows are done; the longest rows come first, so that none is left alone at the end.

    trace: takes what every step did, a run a line, called by its index and complete before the line's record is yielded.
    """
    asked: list[tuple[Request, dict[str, Any], dict[str, Any]]] = []
    for line in lines:
        told: dict[str, Any] = {"index": line.index}
        try:
            parsed = parse(line.text)
            told |= {name: parsed[name] for name in ("id",) if name in parsed}
            asked.append((request(line.index, parsed, settings, engine.model, traced=trace is not None), parsed, told))
        except RemaskError as error:
            yield {**told, "error": str(error)}
    asked.sort(key=lambda made: len(made[0].prompt_ids) + made[0].max_new_tokens)
    running: dict[Ticket, tuple[dict[str, Any], dict[str, Any]]] = {}
    while asked or running:
        while asked and engine.waiting < engine.queue:
            made, parsed, told = asked.pop()
            try:
                running[engine.submit(made)] = (parsed, told)
            except Exception as error:  # a line's own affair, as below
                yield {**told, "error": str(error)}
        engine.step()
        if trace is not None:
            for seen in (seen for ticket in running for update in ticket.take() for seen in update.records):
                trace.append(seen)
        for ticket in [ticket for ticket in running if ticket.done]:
            parsed, told = running.pop(ticket)
            try:
                yield {**told, **result(parsed, ticket.result(0), engine.model)}
            except Exception as error:
                yield {**told, "error": str(error)}
