"""The text of one row as a stream may tell it: what can no longer change, without what may turn out to be a stop."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from remask.engine import Update
from remask.text.ending import before_end

HALF = "\N{REPLACEMENT CHARACTER}"
"""How a decoder spells bytes that are not a character yet."""
REASONS = {"stop": "stop", "length": "length", "budget": "length"}
"""The engine's reasons in OpenAI's words; others are errors."""


@dataclass
class Answer:
    """text: settled so far.  ids: its tokens.  finish: why it ended, None while it goes on.  chances: log-probability by position, if recorded.

    first, last, stops, ends, held: see Asked.
    """

    model: Any
    first: int
    last: int
    stops: tuple[str, ...]
    ends: tuple[int, ...]
    held: bool
    text: str = ""
    ids: list[int] = field(default_factory=list)
    finish: str | None = None
    forwards: int = 0
    positions: int = 0
    chances: dict[int, float] = field(default_factory=dict)

    def read(self, update: Update) -> str:
        """What this update adds to the text; it never takes anything back."""
        self.forwards, self.positions = update.forwards, update.positions
        if update.event is not None:
            self.chances.update(zip(update.event.write, update.event.log_probability, strict=True))
        if self.finish is not None or (self.held and not update.done):
            return ""
        self.ids = self._settled(update)
        whole = self.model.tokenizer.decode(self.ids)
        text, stopped = cut(whole, self.stops)
        if not stopped and not update.done:
            text = text[: len(text) - pending(text, self.stops)].rstrip(HALF)
        if stopped:
            self.finish, self.ids = "stop", self._spelling(text)
        elif update.done:
            self.finish = REASONS.get(update.reason or "", update.reason)
        if not text.startswith(self.text):  # a tokenizer that spells a text differently when it goes on: wait for more
            return ""
        fresh, self.text = text[len(self.text) :], text
        return fresh

    def _settled(self, update: Update) -> list[int]:
        """The ids before the first mask and before the end of the text."""
        span = slice(self.first, self.last)
        tokens, masked = update.tokens[span].tolist(), update.masked[span].tolist()
        known = tokens if True not in masked else tokens[: masked.index(True)]
        return before_end(known, self.ends)

    def _spelling(self, text: str) -> list[int]:
        """The fewest of the ids that spell this much."""
        decode = self.model.tokenizer.decode
        return next(self.ids[:count] for count in range(len(self.ids) + 1) if len(decode(self.ids[:count])) >= len(text))

    def log_probabilities(self) -> list[tuple[str, float]]:
        """Every token of the answer with the log-probability it was written with; those that were given are left out."""
        spell = self.model.tokenizer.token
        return [(spell(token), self.chances[self.first + place]) for place, token in enumerate(self.ids) if self.first + place in self.chances]


def cut(text: str, stops: tuple[str, ...]) -> tuple[str, bool]:
    """The text before the first stop, and whether there was one."""
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    return (text[: min(found)], True) if found else (text, False)


def pending(text: str, stops: tuple[str, ...]) -> int:
    """How many characters at the end may be the beginning of a stop."""
    return max((size for stop in stops for size in range(1, len(stop)) if text.endswith(stop[:size])), default=0)
