"""Spec strings as parts, each of which is read once in a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from remask.errors import RemaskError
from remask.spec import parse_decoder, parse_reuse, parse_window

READERS: Mapping[str, Callable[[str], Any]] = {"decoder": parse_decoder, "window": parse_window, "reuse": parse_reuse}


class Parts:
    """Those that were asked for, and the errors of those that are none.

    A file that a spec string names may be another one an hour later. So what is noted of a part and what decodes are the same object, in this process and,
    since it is pickled with what it read, in others.
    """

    def __init__(self) -> None:
        self.known: dict[tuple[str, str], Any] = {}

    def part(self, kind: str, text: str) -> Any:
        """The decoder, window or reuse rule that a spec string names, read now if it was never asked for; raises on a bad one, with the same words ever after."""
        if (asked := (kind, text)) not in self.known:
            try:
                self.known[asked] = READERS[kind](text)
            except RemaskError as error:
                self.known[asked] = RemaskError(str(error))  # without the frames of this one
        if isinstance(made := self.known[asked], RemaskError):
            raise RemaskError(str(made))
        return made
