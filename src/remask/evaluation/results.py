"""Results on disk: a JSON line an item, by its index. Whatever moment a run is killed at, whole lines are left and at most one that is torn."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from remask.errors import RemaskError
from remask.files import cut_torn_line, in_its_folder, index_of, is_torn_record


def read_records(path: Path) -> dict[int, dict[str, Any]]:
    """index -> record, of the whole lines of a file, which is left as it is; none if there is no file."""
    if not path.exists():
        return {}
    try:
        *lines, torn = path.read_bytes().split(b"\n")
        if not is_torn_record(torn):
            raise ValueError
        records = [json.loads(line) for line in lines]
        return {index_of(record): record for record in records}
    except (ValueError, KeyError, TypeError, RecursionError):
        raise RemaskError(f"{path} is no results file; name another one") from None


def append_records(path: Path, records: Iterable[dict[str, Any]]) -> None:
    """Add whole lines, in the place of a torn one."""
    if path.exists():
        cut_torn_line(path)
    with open(in_its_folder(path), "ab") as file:
        file.write("".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records).encode())
