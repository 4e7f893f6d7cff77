"""Small files: out of strangers' folders, where a size that no published file has is refused before it is read, and our own, which a kill leaves readable."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from remask.errors import RemaskError

MOST = 1 << 27
"""Bytes; the largest that are published, tokenizers of large vocabularies, have a tenth of it."""


def check_size(path: Path, most: int = MOST) -> None:
    """Raise if a file has more bytes."""
    if (size := path.stat().st_size) > most:
        raise RemaskError(f"{path} has {size:,} bytes, more than {most:,}; download it again")


def read_object(path: Path, *, remedy: str = "download it again") -> dict[str, Any]:
    """A JSON object; an error ends in what to do about it."""
    check_size(path)
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise RemaskError(f"{path} is not valid JSON ({error}); {remedy}") from None
    if not isinstance(value, dict):
        raise RemaskError(f"{path} holds {type(value).__name__}, not an object; {remedy}")
    return value


def in_its_folder(path: Path) -> Path:
    """The path of a file to be written, whose folder is made if there is none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RemaskError(f"cannot write {path}: its folder cannot be made ({error.strerror}); name a file elsewhere") from None
    return path


def write_whole(path: Path, text: str) -> None:
    """Written beside and moved, so that a kill leaves the old file or the new one."""
    beside = in_its_folder(path).with_name(path.name + ".part")
    beside.write_text(text, encoding="utf-8")
    beside.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Indented JSON, whole."""
    write_whole(path, json.dumps(value, indent=2) + "\n")


def file_name(spec: str) -> str:
    """A spec string, or another name of what a file holds, as the file's name."""
    return "".join(character if character.isalnum() or character in ".=,-_" else "~" for character in spec)


NAMES = {"model": "weights", **{kind: f"{kind}_content" for kind in ("decoder", "window", "reuse")}}
"""Settings that name something -> those that tell it by its content: a folder, or a file that a part read, has many names, and may hold something else the next time."""


def check_settings(path: Path, before: Any, now: Mapping[str, Any], remedy: str = "name another file, or remove it") -> None:
    """Raise unless what `path` holds, made under the settings `before`, can be gone on with under those of `now`: that they are equal. before: as read, None if none were noted.

    Names are not compared where both sides note the content (NAMES).
    """
    if not isinstance(before, Mapping):
        raise RemaskError(f"{path} holds results without `settings`, so that nothing says what made them; {remedy}")
    for name in {**now, **before}:
        if (content := NAMES.get(name)) in before and content in now:
            continue
        if name not in before:
            raise RemaskError(f"{path} holds results that do not note `{name}`, which is {now[name]} now; {remedy}")
        if name not in now:
            raise RemaskError(f"{path} holds results with {name} {before[name]}, of which nothing is noted now; {remedy}")
        if before[name] != now[name]:
            raise RemaskError(f"{path} holds results with {name} {before[name]}, not {now[name]}; {remedy}")


def index_of(record: Any) -> int:
    """What a line of results, as read, says of its place; a ValueError, KeyError or TypeError if it is none."""
    if not isinstance(index := record["index"], int) or index < 0:
        raise ValueError(index)
    return index


def is_torn_record(line: bytes) -> bool:
    """Whether a line without its end may have become one of results, all of which begin with their index; else it is somebody's only line, and not to be cut."""
    start = b'{"index": '
    return line[: len(start)] == start[: len(line)]


def cut_torn_line(path: Path) -> None:
    """Cut the file behind its last newline, in place: written anew, a kill would lose its whole lines too."""
    with open(path, "r+b") as file:
        file.truncate(file.read().rfind(b"\n") + 1)
