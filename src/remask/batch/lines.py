"""A line of the input as a request, and what came of it as a line of the output."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from remask.batch.parts import READERS, Parts
from remask.engine import Request, Update
from remask.errors import RemaskError
from remask.shapers import sampling
from remask.spec import content_settings
from remask.text.ending import before_end, end_ids

SOURCES = ("prompt", "messages", "tokens")
OWN = ("id", "infill", *SOURCES)


@dataclass(frozen=True)
class Settings:
    """What holds for every line that does not say otherwise; a line may carry each of these but the last.

    seed: line i uses seed + i, unless it names its own.  known: the parts that were read for these settings and for any line.
    """

    decoder: str = "low_confidence"
    window: str = "whole"
    reuse: str = "fresh"
    temperature: float = 0.0
    top_p: float = 1.0
    top_k: int = 0
    max_new_tokens: int = 128
    seed: int = 0
    known: Parts = field(default_factory=Parts, repr=False, compare=False, kw_only=True)

    def __post_init__(self) -> None:
        self.parts()

    def parts(self) -> dict[str, Any]:
        """As arguments of a Request; raises on a bad one."""
        return {**self.named(), "shapers": sampling(self.temperature, self.top_p, self.top_k)}

    def named(self) -> dict[str, Any]:
        """The parts that spec strings name, by kind."""
        return {kind: self.known.part(kind, getattr(self, kind)) for kind in READERS}

    def noted(self) -> dict[str, Any]:
        """As results note them: with what parts read of files."""
        return {**{name: getattr(self, name) for name in OPTIONS}, **content_settings(self.named())}

    def of(self, index: int, line: Mapping[str, Any]) -> Settings:
        """Those of one line."""
        own = {name: typed(name, line[name], kind) for name, kind in OPTIONS.items() if name in line}
        return replace(self, **{"seed": self.seed + index, **own})


OPTIONS: Mapping[str, type] = {option.name: type(option.default) for option in fields(Settings) if option.compare}
"""What a line may say otherwise, and its type."""


def key(text: bytes, settings: Settings) -> str:
    """Says that a result belongs to this line, and to what parts of its own read of files."""
    read = own_content(text, settings.known)
    return hashlib.sha256(text.strip() + (json.dumps(read).encode() if read else b"")).hexdigest()[:16]


def own_content(text: bytes, known: Parts) -> dict[str, str]:
    """See content_settings; nothing of a line that names no parts, or wrong ones."""
    try:
        line = parse(text)
        return content_settings({kind: known.part(kind, line[kind]) for kind in READERS if isinstance(line.get(kind), str)})
    except RemaskError:
        return {}


def parse(text: bytes) -> dict[str, Any]:
    """A line as an object with exactly one source of its prompt."""
    try:
        line = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise RemaskError(f"the line is not valid JSON ({error}); write one object a line") from None
    if not isinstance(line, dict):
        raise RemaskError(f"the line holds {type(line).__name__}; write one object a line")
    known = [*OWN, *OPTIONS]
    if unknown := [name for name in line if name not in known]:
        raise RemaskError(f"unknown key {unknown[0]!r}; use {', '.join(known)} (what is yours goes under id)")
    if len([name for name in SOURCES if name in line]) != 1:
        raise RemaskError(f"the line must have exactly one of {', '.join(SOURCES)}")
    return line


def request(index: int, line: Mapping[str, Any], settings: Settings, model: Any, *, traced: bool = False) -> Request:
    """The request of a parsed line. infill: the masks of the prompt are filled in, and nothing is added.  traced: as the run `index` of a trace."""
    chosen = settings.of(index, line)
    new = 0 if typed("infill", line.get("infill", False), bool) else chosen.max_new_tokens
    return Request(ids(line, model), new, seed=chosen.seed, updates=traced, record=traced, drafts=False, run=str(index), **chosen.parts())


def ids(line: Mapping[str, Any], model: Any) -> list[int]:
    """The ids of its prompt: as they are, of a text, or of a conversation through the chat template."""
    if "tokens" in line:
        tokens = typed("tokens", line["tokens"], list)
        return [typed("a token", token, int) for token in tokens]
    if model.tokenizer is None:
        raise RemaskError("this checkpoint has no tokenizer files; give tokens")
    if "prompt" in line:
        if not typed("prompt", line["prompt"], str):
            raise RemaskError("the prompt is empty; give a text, or tokens: [] for unconditional generation")
        return model.tokenizer.encode(line["prompt"])
    messages = typed("messages", line["messages"], list)
    return model.tokenizer.encode(model.tokenizer.chat([typed("a message", message, dict) for message in messages]))


def typed(name: str, value: Any, kind: type) -> Any:
    """The value, if it is of the kind (a whole number is a number, true is not)."""
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        raise RemaskError(f"{name} is {value!r}; it must be of type {kind.__name__}")
    return value


def result(line: Mapping[str, Any], update: Update, model: Any) -> dict[str, Any]:
    """What came of a line: text and ids before the end-of-text (of an infill: the whole row), why it ended, and what it cost."""
    written = update.tokens if line.get("infill") else update.answer
    kept = before_end(written.tolist(), end_ids(model))
    text = None if model.tokenizer is None else model.tokenizer.decode(kept)
    return {"text": text, "tokens": kept, "reason": update.reason, "forwards": update.forwards, "positions": update.positions}
