"""Where the tasks that need text find it."""

from __future__ import annotations

import lzma
import os
from collections.abc import Iterator
from pathlib import Path

from remask.errors import RemaskError

LONGEST = 1 << 24
"""Characters of a line; those of the tasks have a few thousand."""


def data_folder() -> Path:
    """The folder named by REMASK_DATA; unset, `shared/data` beside the checkout."""
    named = os.environ.get("REMASK_DATA")
    folder = Path(named) if named else Path(__file__).resolve().parents[5] / "shared" / "data"
    if not folder.is_dir():
        raise RemaskError(f"no data folder {str(folder)!r}; set REMASK_DATA to the folder that holds gsm_aug_*.jsonl.xz and pdfiction_*.txt.xz")
    return folder


def data_file(name: str) -> Path:
    """The path of one file of the data folder, which must be there."""
    path = data_folder() / name
    if not path.is_file():
        raise RemaskError(f"{path} is missing; set REMASK_DATA to the folder that holds it")
    return path


def lines(path: Path) -> Iterator[str]:
    """The lines of an xz-compressed UTF-8 file."""
    try:
        with lzma.open(path, "rt", encoding="utf-8") as file:
            while line := file.readline(LONGEST):
                if len(line) == LONGEST:
                    raise RemaskError(f"{path} has a line of {LONGEST:,} characters or more; fetch it again")
                yield line
    except (lzma.LZMAError, EOFError, UnicodeDecodeError) as error:
        raise RemaskError(f"{path} is broken ({error}); fetch it again") from None
