"""A body as rows of the engine, or an error that names the field."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from remask.engine import Request
from remask.errors import RemaskError
from remask.server.protocol import ChatBody, CompletionBody
from remask.shapers import sampling
from remask.spec import parse_decoder, parse_reuse, parse_window
from remask.text.ending import end_ids
from remask.windows.base import room

ROOM = 128
"""New tokens of a request that names no number, where they fit."""
MOST_DIGITS = 7
"""Digits of a number in a spec string: a schedule of 10^12 steps is an attack."""


class Refused(RemaskError):
    """A request that is answered with an error status."""

    def __init__(self, message: str, *, param: str | None = None, status: int = 400, code: str | None = None) -> None:
        super().__init__(message)
        self.param, self.status, self.code = param, status, code


@dataclass(frozen=True)
class Asked:
    """requests: one a row.  first, last: the positions whose text is the answer.  stops, ends: texts and tokens that end it.  held: nothing is settled before the end."""

    requests: tuple[Request, ...]
    first: int
    last: int
    stops: tuple[str, ...]
    ends: tuple[int, ...]
    held: bool
    seed: int


def asked(body: CompletionBody | ChatBody, model: Any, *, longest: int, deadline: float, client: str, traced: bool = False) -> Asked:
    """The rows of a request; Refused if it can't be done.

    longest: positions of a canvas.  deadline: seconds a row may take.  client: whose turn they take.  traced: every step is recorded.
    """
    parts = {
        name: part(getattr(body, name), parse, name)
        for name, parse in (("decoder", parse_decoder), ("window", parse_window), ("reuse", parse_reuse))
    }  # fmt: skip
    if body.include_canvas and not body.stream:
        raise Refused("include_canvas needs stream=true; set it, or leave include_canvas out", param="include_canvas")
    ids, new, first, last = canvas(body, model, longest)
    whole = len(ids) + room(parts["window"], ids, new, model.mask_id)
    if whole > longest:
        raise Refused(
            f"the canvas would have {whole} positions and this server takes {longest}; shorten the prompt or max_tokens", param="max_tokens", code="context_length_exceeded"
        )
    seed = secrets.randbelow(2**31) if body.seed is None else body.seed
    infills = isinstance(body, CompletionBody) and body.infill
    record = traced or body.include_canvas or (body.logprobs is not None and body.logprobs is not False)
    shapers = sampling(body.temperature or 0.0, 1.0 if body.top_p is None else body.top_p)
    shared = {**parts, "shapers": shapers, "max_new_tokens": new, "deadline": deadline, "client": client, "early_stop": not infills}
    shared |= {"record": record, "drafts": body.include_canvas, "updates": record or bool(body.stream or body.stop)}
    requests = tuple(Request(ids, seed=seed + row, run=str(row), **shared) for row in range(body.n or 1))
    stops = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
    return Asked(requests, first, last, stops, () if infills else end_ids(model), parts["decoder"].revises, seed)


def part(text: str, parse: Callable[..., Any], name: str) -> Any:
    """A part from its spec string, which names no files."""
    if re.search(rf"(?<![.\d])\d{{{MOST_DIGITS + 1},}}", text):
        raise Refused(f"{name} holds a number of more than {MOST_DIGITS} digits; use a smaller one", param=name)
    try:
        return parse(text, files=False)
    except (ValueError, TypeError, OverflowError) as error:
        raise Refused(str(error), param=name) from None


def canvas(body: CompletionBody | ChatBody, model: Any, longest: int) -> tuple[list[int], int, int, int]:
    """Prompt ids, new tokens behind them, and where the answer begins and ends."""
    if isinstance(body, ChatBody):
        ids = encoded(chat_text(body, model), model, "messages")
        new = body.max_completion_tokens or body.max_tokens or fitting(len(ids), longest)
        return ids, new, len(ids), len(ids) + new
    if not body.prompt and body.suffix is None:
        raise Refused("the prompt is empty; give a text", param="prompt")
    if body.infill:
        if body.suffix is not None:
            raise Refused("infill and suffix exclude each other; spell the gap in the prompt, or give a suffix", param="suffix")
        ids = encoded(body.prompt, model, "prompt", masks=True)
        if model.mask_id not in ids:
            raise Refused(f"infill needs a gap; spell {model.tokenizer.token(model.mask_id)} once for each token to be written", param="prompt")
        return ids, 0, 0, len(ids)
    ids, behind = encoded(body.prompt, model, "prompt"), [] if body.suffix is None else encoded(body.suffix, model, "suffix")
    new = min(body.max_tokens or fitting(len(ids) + len(behind), longest), longest + 1)  # a longer canvas is refused before it is made
    last = len(ids) + new
    if body.suffix is None:
        return ids, new, len(ids), last
    return [*ids, *[model.mask_id] * new, *behind], 0, len(ids), last


def fitting(known: int, longest: int) -> int:
    """New tokens beside so many known ones."""
    return max(1, min(ROOM, longest - known))


def encoded(text: str, model: Any, name: str, *, masks: bool = False) -> list[int]:
    """The ids of a text; a mask that it spells is a gap only where gaps were asked for."""
    ids = model.tokenizer.encode(text)
    if not masks and model.mask_id in ids:
        raise Refused(f"{name} spells the mask {model.tokenizer.token(model.mask_id)}; leave it out, or ask for infill", param=name)
    return ids


def chat_text(body: ChatBody, model: Any) -> str:
    """The messages through the checkpoint's own template, which alone is ever run."""
    try:
        return model.tokenizer.chat([{"role": message.role, "content": message.text} for message in body.messages])
    except RemaskError as error:
        raise Refused(str(error), param="messages") from None
