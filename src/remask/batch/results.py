"""The file of results: whole lines only, whatever moment a run is killed at."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from remask.errors import RemaskError
from remask.files import check_settings, in_its_folder, index_of, is_torn_record


class Results:
    """JSON lines, each with the `index` and the `key` of its input line and the `settings` of all. Use as a context; lines are appended as they come.

    A line is handed to the system in one write, so a kill loses at most what was not yet written; a half-written end, of a full disk, say,
    is cut off when the file is opened again.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        self.path, self.settings = path, dict(settings)
        self.done: dict[int, str] = {}

    def __enter__(self) -> Results:
        try:
            self.file = open(in_its_folder(self.path), "a+b", buffering=0)
        except OSError as error:
            raise RemaskError(f"cannot write {self.path}: {error.strerror}; name another file") from None
        self.file.seek(0)
        end = 0
        for number, line in enumerate(iter(self.file.readline, b""), 1):
            torn = not line.endswith(b"\n")
            if torn and is_torn_record(line):
                self.file.truncate(end)
                break
            end += len(line)
            try:
                record = {} if torn else json.loads(line)
                self.done[index_of(record)], made = record["key"], record.get("settings")
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                raise RemaskError(f"{self.path} is no file of results: line {number} is no object with `index` and `key`; name another file") from None
            check_settings(self.path, made, self.settings)
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def add(self, records: list[dict[str, Any]]) -> None:
        """Append lines."""
        if records:
            self.file.write("".join(json.dumps({"index": record["index"], **record, "settings": self.settings}, ensure_ascii=False) + "\n" for record in records).encode())
            self.done |= {record["index"]: record["key"] for record in records}

    def sort(self) -> int:
        """Put the lines into the order of the input, in one move; how many of them are errors."""
        places: list[tuple[int, int, int]] = []
        self.file.seek(0)
        start = failed = 0
        for line in iter(self.file.readline, b""):
            record = json.loads(line)
            failed += "error" in record
            places.append((record["index"], start, len(line)))
            start += len(line)
        if places != sorted(places):
            beside = self.path.with_name(self.path.name + ".sorting")
            with open(beside, "wb") as ordered:
                for _, start, length in sorted(places):
                    self.file.seek(start)
                    ordered.write(self.file.read(length))
                ordered.flush()
                os.fsync(ordered.fileno())
            os.replace(beside, self.path)
        return failed
