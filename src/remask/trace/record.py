"""What happened to every row of a decode: the records of a trace, made from the loop's steps, and replayed without a model."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol

import torch
from torch import Tensor

from remask.canvas import Canvas, Edit
from remask.denoise import Step
from remask.prediction import Belief, Summary


@dataclass(frozen=True)
class Opening:
    """A row before its first step.

    run: its name in the trace.  tokens: its real positions, the mask where it was to be written; every position of a trace counts along them.
    settings: what it was decoded with, as spec strings.
    """

    run: str
    tokens: list[int]
    mask_id: int
    seed: int = 0
    settings: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Draft:
    """What the model would write at positions that this step left masked, and its confidence there."""

    positions: list[int]
    tokens: list[int]
    confidence: list[float]


@dataclass(frozen=True)
class Event:
    """One step of one row.

    write, tokens, confidence, log_probability: in parallel, by position; the confidence is the model's largest probability there, before shapers, and the
    log-probability that of the written token after them, which is the law it was drawn from (-inf for a token that they exclude).
    remask: positions masked again.  filled: (position, token) pairs that the loop wrote, the end-of-text behind the end.
    active: computed positions as (start, stop) runs.  forwards, positions: costs up to and with this step.
    canvas: the whole row as the pass of this step saw it, only where the window had lengthened it.
    """

    run: str
    step: int
    write: list[int]
    tokens: list[int]
    confidence: list[float]
    log_probability: list[float]
    remask: list[int]
    filled: list[tuple[int, int]]
    active: list[tuple[int, int]]
    forwards: int
    positions: int
    done: bool
    draft: Draft | None = None
    canvas: list[int] | None = None


Record = Opening | Event


@dataclass(frozen=True)
class Trace:
    """Rows by name, in the order they were opened. pieces: how token ids are spelled."""

    openings: dict[str, Opening]
    events: dict[str, list[Event]]
    pieces: dict[int, str] = field(default_factory=dict)

    @staticmethod
    def of(records: Iterable[Record], pieces: Mapping[int, str] | None = None) -> Trace:
        """The records by row; a row that is opened again starts anew."""
        openings: dict[str, Opening] = {}
        events: dict[str, list[Event]] = {}
        for record in records:
            if isinstance(record, Opening):
                openings[record.run], events[record.run] = record, []
            else:
                events[record.run].append(record)
        return Trace(openings, events, dict(pieces or {}))


def replay(trace: Trace) -> dict[str, list[int]]:
    """The tokens of every row after its last step: what `decode` returned (law 8)."""
    finals: dict[str, list[int]] = {}
    for run, opening in trace.openings.items():
        finals[run] = opening.tokens
        for tokens in canvases(opening, trace.events[run]):
            finals[run] = tokens
    return finals


def canvases(opening: Opening, events: Iterable[Event]) -> Iterator[list[int]]:
    """The row's tokens after each of its steps."""
    tokens = list(opening.tokens)
    for event in events:
        if event.canvas is not None:
            tokens = list(event.canvas)
        for position in event.remask:
            tokens[position] = opening.mask_id
        for position, token in [*zip(event.write, event.tokens, strict=True), *event.filled]:
            tokens[position] = token
        yield list(tokens)


class Records(Protocol):
    """Where records go: a list, or a trace file."""

    def append(self, record: Record, /) -> None: ...


def record(
    steps: Iterable[Step],
    to: Records,
    *,
    canvas: Canvas | None = None,
    runs: Sequence[str] | None = None,
    seeds: Sequence[int] | None = None,
    settings: Mapping[str, str] | None = None,
    drafts: bool = True,
) -> Iterator[Step]:
    """Pass the steps on, and append what each did to every row.

    canvas: the one before the first step; None: that of the first step with every position masked that is not given.
    runs: names of the rows, their numbers by default.  drafts: also what the model would write where it has not yet: a canvas of numbers a step.
    """
    before, done, names = canvas, None, list(runs or ())
    for number, step in enumerate(steps):
        source = step.source
        if before is None:
            before, source = unwritten(step.canvas), None
        if done is None:
            names = names or [str(row) for row in range(before.shape[0])]
            open_rows(to, before, names, seeds, settings)
            done = ~before.masked.any(1)
        seen = before if source is None else before.moved(source)
        grew = seen.real.sum(1) != before.real.sum(1)
        for row in (~done).nonzero()[:, 0].tolist():
            to.append(event(seen, step, row, names[row], number, drafts=drafts, grew=bool(grew[row])))
        before, done = step.canvas, step.done
        yield step


def unwritten(canvas: Canvas) -> Canvas:
    """The canvas with every position masked that is not given."""
    return replace(canvas, tokens=torch.where(canvas.given, canvas.tokens, canvas.mask_id))


def open_rows(to: Records, canvas: Canvas, names: Sequence[str], seeds: Sequence[int] | None, settings: Mapping[str, str] | None) -> None:
    """An opening a row."""
    for row, name in enumerate(names):
        to.append(Opening(name, canvas.tokens[row][canvas.real[row]].tolist(), canvas.mask_id, seeds[row] if seeds else row, dict(settings or {})))


def event(before: Canvas, step: Step, row: int, run: str, number: int, *, drafts: bool = True, grew: bool = False) -> Event:
    """What one step did to one row. before: the canvas that its pass saw.  grew: the row has more positions than a step earlier."""
    real = step.canvas.real[row]
    edit, tokens = step.edit, step.canvas.tokens[row][real]
    write, remask = edit.write[row][real], None if edit.remask is None else (edit.remask & ~edit.write)[row][real]
    other = Edit(edit.write, edit.tokens, edit.remask).apply(before).tokens[row][real] != tokens
    masked = step.canvas.masked[row][real]
    written = tokens[write]
    raw, shaped = (logits_of(belief, row, real) for belief in (step.prediction.raw, step.prediction.shaped))
    draft = None
    if drafts:
        candidates = step.prediction.candidates[row][real][masked]
        draft = Draft(places(masked), candidates.tolist(), numbers(confidence(raw[masked])))
    return Event(
        run,
        number,
        places(write),
        written.tolist(),
        numbers(confidence(raw[write])),
        numbers(torch.log_softmax(shaped[write], dim=-1).gather(-1, written[:, None])[:, 0]),
        [] if remask is None else places(remask),
        [(position, int(tokens[position])) for position in places(other)],
        stretches(step.active[row][real]),
        int(step.forwards[row]),
        int(step.positions[row]),
        bool(step.done[row]),
        draft,
        before.tokens[row][real].tolist() if grew else None,
    )


def logits_of(belief: Belief | Summary, row: int, real: Tensor) -> Tensor:
    """(R, V): the belief at the real positions of a row."""
    return belief.logits[row][real]


def confidence(logits: Tensor) -> Tensor:
    """(N, V) -> (N,): the largest probability, without the other V - 1."""
    return (logits.amax(-1) - logits.logsumexp(-1)).exp()


def places(flags: Tensor) -> list[int]:
    """The positions of a (L,) bool."""
    return flags.nonzero()[:, 0].tolist()


def stretches(flags: Tensor) -> list[tuple[int, int]]:
    """A (L,) bool as (start, stop) runs."""
    edges = torch.diff(flags.to(torch.int8), prepend=flags.new_zeros(1, dtype=torch.int8), append=flags.new_zeros(1, dtype=torch.int8))
    return list(zip(places(edges == 1), places(edges == -1), strict=True))


def numbers(values: Tensor) -> list[float]:
    """Python floats that read back as the same values: nine digits hold a float32, Python's own a float64."""
    if values.dtype == torch.float64:
        return values.tolist()
    return [float(f"{value:.9g}") for value in values.float().tolist()]
