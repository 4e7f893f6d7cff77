"""Answers as OpenAI's objects, whole and in chunks."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from remask.server.answer import Answer

CHAT, COMPLETION = "chat", "completion"


@dataclass(frozen=True)
class Form:
    """One response's identity, and the shape of its kind. prompt_tokens, seed: what it was made from."""

    kind: str
    model: str
    prompt_tokens: int
    seed: int
    logprobs: bool
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    created: int = field(default_factory=lambda: int(time.time()))

    @property
    def name(self) -> str:
        """The response's id as clients see it."""
        return f"{'chatcmpl' if self.kind == CHAT else 'cmpl'}-{self.id}"

    def head(self, *, chunk: bool) -> dict[str, Any]:
        """The fields that all objects of this response share."""
        kind = "text_completion" if self.kind == COMPLETION else "chat.completion.chunk" if chunk else "chat.completion"
        return {"id": self.name, "object": kind, "created": self.created, "model": self.model}

    def whole(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The response without streaming."""
        choices = [self.choice(row, answer.text, answer.finish, self.chances(answer.log_probabilities())) for row, answer in enumerate(answers)]
        return {**self.head(chunk=False), "choices": choices, "usage": usage(answers, self.prompt_tokens), "remask": costs(answers, self.seed)}

    def choice(self, row: int, text: str, finish: str | None, chances: dict[str, Any] | None) -> dict[str, Any]:
        """A row's answer."""
        shared = {"index": row, "logprobs": chances, "finish_reason": finish}
        if self.kind == CHAT:
            return {**shared, "message": {"role": "assistant", "content": text, "refusal": None}}
        return {**shared, "text": text}

    def opening(self, row: int) -> dict[str, Any]:
        """The first chunk of a chat's row, which says whose turn it is."""
        delta = {"role": "assistant", "content": ""}
        return {**self.head(chunk=True), "choices": [{"index": row, "delta": delta, "logprobs": None, "finish_reason": None}]}

    def chunk(self, row: int, text: str, finish: str | None, chances: list[tuple[str, float]]) -> dict[str, Any]:
        """What a row's answer grew by."""
        shared = {"index": row, "logprobs": self.chances(chances) if chances else None, "finish_reason": finish}
        body = {"delta": {"content": text} if text or not finish else {}} if self.kind == CHAT else {"text": text}
        return {**self.head(chunk=True), "choices": [{**shared, **body}]}

    def counted(self, answers: Sequence[Answer]) -> dict[str, Any]:
        """The chunk of `include_usage`."""
        return {**self.head(chunk=True), "choices": [], "usage": usage(answers, self.prompt_tokens), "remask": costs(answers, self.seed)}

    def chances(self, pairs: list[tuple[str, float]]) -> dict[str, Any] | None:
        """Log-probabilities, in the shape of the kind; None if they were not asked for."""
        if not self.logprobs:
            return None
        finite = [(token, max(chance, -9999.0)) for token, chance in pairs]  # OpenAI's own word for minus infinity
        if self.kind == CHAT:
            content = [{"token": token, "logprob": chance, "bytes": list(token.encode("utf-8", "replace")), "top_logprobs": []} for token, chance in finite]
            return {"content": content, "refusal": None}
        return {"tokens": [token for token, _ in finite], "token_logprobs": [chance for _, chance in finite], "top_logprobs": None, "text_offset": None}


def usage(answers: Sequence[Answer], prompt_tokens: int) -> dict[str, int]:
    """Token counts: generated ones are those before the end of the text."""
    generated = sum(len(answer.ids) for answer in answers)
    return {"prompt_tokens": prompt_tokens, "completion_tokens": generated, "total_tokens": prompt_tokens + generated}


def costs(answers: Sequence[Answer], seed: int) -> dict[str, Any]:
    """What OpenAI has no word for: network evaluations and computed positions of each row, and the seed that was used."""
    return {"forwards": [answer.forwards for answer in answers], "positions": [answer.positions for answer in answers], "seed": seed}
