"""Traces on disk: JSON lines, one a record, so that a killed run leaves everything but its last line."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any

from remask.errors import RemaskError
from remask.files import cut_torn_line, in_its_folder
from remask.trace.record import Draft, Event, Opening, Record, Trace

HEADER = {"kind": "trace", "version": 1}
LONGEST = 1 << 20
"""Positions a row: a file must not make a reader reserve more."""


class Spelling:
    """How token ids are spelled: each one once, when it is first seen."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer, self.known = tokenizer, set[int]()

    def new(self, record: Record) -> dict[int, str]:
        """The pieces of the ids in this record that were not seen before; the mask is no text."""
        if isinstance(record, Opening):
            ids = [token for token in record.tokens if token != record.mask_id]
        else:
            ids = [*record.tokens, *(token for _, token in record.filled), *(record.draft.tokens if record.draft else ()), *(record.canvas or ())]
        fresh = [token for token in dict.fromkeys(ids) if token not in self.known]
        self.known.update(fresh)
        return {token: self.spell(token) for token in fresh}

    def spell(self, token: int) -> str:
        """The text of one token inside a text; its number without a tokenizer; its name if it is special."""
        if self.tokenizer is None:
            return str(token)
        twice, once = (self.tokenizer.decode([token] * count) for count in (2, 1))
        return twice[len(once) :] or self.tokenizer.token(token)


def lines(record: Record, spelling: Spelling) -> Iterator[dict[str, Any]]:
    """A record as JSON objects, the pieces that it needs before it."""
    if pieces := spelling.new(record):
        yield {"kind": "pieces", "pieces": spelled(pieces)}
    yield as_object(record)


def spelled(pieces: Mapping[int, str]) -> dict[str, str]:
    """Pieces with the keys that JSON asks for."""
    return {str(token): piece for token, piece in pieces.items()}


def as_object(record: Record) -> dict[str, Any]:
    """A record as a JSON object; minus infinity is null."""
    if isinstance(record, Opening):
        return {"kind": "opening", **asdict(record)}
    values = {key: value for key, value in asdict(record).items() if value is not None}
    return {"kind": "step", **values, "log_probability": [None if value == float("-inf") else value for value in record.log_probability]}


class TraceFile:
    """A trace being written, a context manager; every record is in the file when `append` returns.

    resume: keep what is there, less a torn last line; rows that are opened again start anew.
    """

    def __init__(self, path: Path, tokenizer: Any = None, *, resume: bool = False) -> None:
        self._spelling = Spelling(tokenizer)
        going_on = resume and path.exists() and path.stat().st_size > 0
        if going_on:
            read(path)
            cut_torn_line(path)
        try:
            self._file = open(in_its_folder(path), "a" if going_on else "w", encoding="utf-8", newline="\n")  # noqa: SIM115
        except OSError as error:
            raise RemaskError(f"cannot write the trace {path} ({error.strerror}); name another file") from None
        if not going_on:
            self._file.write(dumped(HEADER))
            self._file.flush()

    def append(self, record: Record) -> None:
        """Write one record."""
        self.add(written(record, self._spelling))

    def add(self, text: str) -> None:
        """Write records that are lines already, as `written` gives them."""
        self._file.write(text)
        self._file.flush()

    def close(self) -> None:
        """Nothing more is written."""
        self._file.close()

    def __enter__(self) -> TraceFile:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.close()


def written(record: Record, spelling: Spelling) -> str:
    """A record as lines of a trace file."""
    return "".join(dumped(line) for line in lines(record, spelling))


def dumped(line: dict[str, Any]) -> str:
    """One line of a trace file."""
    return json.dumps(line, ensure_ascii=False, separators=(",", ":"), allow_nan=False) + "\n"


def whole_lines(path: Path) -> list[str]:
    """The lines of a file without the last one if its newline is missing: a killed writer left it."""
    try:
        return path.read_bytes().rpartition(b"\n")[0].decode("utf-8").split("\n")
    except OSError as error:
        raise RemaskError(f"cannot read the trace {path} ({error.strerror}); name a file that --trace wrote") from None
    except UnicodeDecodeError:
        raise RemaskError(f"{path} is no trace: it is not UTF-8; name a file that --trace wrote") from None


def read(path: Path) -> Trace:
    """The trace in a file. A torn last line is ignored; any other line that does not fit is an error that names it."""
    return parse(whole_lines(path), str(path))


def parse(rows: list[str], name: str) -> Trace:
    """The trace in the lines of a file of this name."""
    if not rows or decoded(rows[0]).get("kind") != "trace":
        raise RemaskError(f"{name} is no trace; name a file that --trace wrote")
    if decoded(rows[0]).get("version") != HEADER["version"]:
        raise RemaskError(f"{name} is a trace of version {decoded(rows[0]).get('version')}, this remask reads {HEADER['version']}; read it with the remask that wrote it")
    records: list[Record] = []
    pieces: dict[int, str] = {}
    lengths: dict[str, int] = {}
    for number, row in enumerate(rows[1:], start=2):
        line = decoded(row)
        try:
            if line["kind"] == "pieces":
                pieces.update({int(token): words(piece) for token, piece in line["pieces"].items()})
            elif line["kind"] == "opening":
                records.append(opening(line))
                lengths[line["run"]] = len(line["tokens"])
            elif line["kind"] == "step":
                records.append(step(line, lengths))
            else:
                raise ValueError
        except (KeyError, ValueError, TypeError, AttributeError):
            raise RemaskError(f"line {number} of {name} is no record of a trace; write the trace again") from None
    return Trace.of(records, pieces)


def decoded(row: str) -> dict[str, Any]:
    """The object in a line, empty if there is none."""
    try:
        line = json.loads(row)
    except (json.JSONDecodeError, RecursionError):
        return {}
    return line if isinstance(line, dict) else {}


def opening(line: dict[str, Any]) -> Opening:
    """An opening, its fields checked."""
    settings = {words(key): words(value) for key, value in line["settings"].items()}
    return Opening(words(line["run"]), wholes(line["tokens"], LONGEST), whole(line["mask_id"]), whole(line["seed"], below=None), settings)


def step(line: dict[str, Any], lengths: dict[str, int]) -> Event:
    """A step of a row that was opened, its positions inside the row."""
    canvas = None if line.get("canvas") is None else wholes(line["canvas"], LONGEST)
    length = lengths[line["run"]] if canvas is None else len(canvas)
    lengths[line["run"]] = length
    write, tokens = places(line["write"], length), wholes(line["tokens"], length)
    confidence, chance = reals(line["confidence"]), reals(line["log_probability"])
    if not len(write) == len(tokens) == len(confidence) == len(chance):
        raise ValueError
    filled = [(whole(place, below=length), whole(token)) for place, token in line["filled"]]
    active = [(whole(start, below=length), whole(stop, below=length + 1)) for start, stop in line["active"]]
    counts = whole(line["forwards"]), whole(line["positions"])
    told = line.get("draft")
    draft = None if told is None else Draft(places(told["positions"], length), wholes(told["tokens"], length), reals(told["confidence"]))
    if draft is not None and not len(draft.positions) == len(draft.tokens) == len(draft.confidence):
        raise ValueError
    return Event(line["run"], whole(line["step"]), write, tokens, confidence, chance, places(line["remask"], length), filled, active, *counts, line["done"] is True, draft, canvas)


def whole(value: Any, *, below: int | None = 1 << 31) -> int:
    """A whole number; with `below` from 0 up to but without it."""
    if type(value) is not int or (below is not None and not 0 <= value < below):
        raise ValueError
    return value


def wholes(values: Any, most: int) -> list[int]:
    """At most so many token ids."""
    if type(values) is not list or len(values) > most:
        raise ValueError
    return [whole(value) for value in values]


def places(values: Any, length: int) -> list[int]:
    """Positions of a row of this length."""
    return [whole(value, below=length) for value in values]


def reals(values: Any) -> list[float]:
    """Numbers; null stands for minus infinity, which JSON has no word for."""
    if any(value is not None and type(value) not in (int, float) for value in values):
        raise ValueError
    return [float("-inf") if value is None else float(value) for value in values]


def words(value: Any) -> str:
    """A string."""
    if type(value) is not str:
        raise ValueError
    return value
