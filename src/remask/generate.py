"""Text in, text out: the border around `decode`."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from remask.canvas import Canvas
from remask.decoders import Decoder, LowConfidence
from remask.denoise import Step, denoise
from remask.errors import RemaskError
from remask.reuse import Fresh, Reuse
from remask.shapers import Shaper
from remask.text.ending import before_end, end_ids
from remask.windows.base import Window, room
from remask.windows.whole import Whole


@dataclass(frozen=True)
class Stats:
    """What one row cost: forwards until it was done, positions computed, tokens before the end-of-text, seconds of its batch."""

    forwards: int
    positions: int
    generated: int
    seconds: float

    @property
    def tokens_per_forward(self) -> float:
        """Tokens before the end-of-text, a network evaluation."""
        return self.generated / max(1, self.forwards)


@dataclass(frozen=True)
class Completion:
    """text: without special tokens.  tokens: the generated ids before the end-of-text."""

    text: str
    tokens: list[int]
    stats: Stats


def generate(
    model: Any,
    prompts: Sequence[str],
    *,
    max_new_tokens: int = 128,
    decoder: Decoder = LowConfidence(),
    window: Window = Whole(),
    reuse: Reuse = Fresh(),
    shapers: Sequence[Shaper] = (),
    seed: int | Sequence[int] = 0,
    early_stop: bool = True,
    chat: bool = False,
    unconditional: bool = False,
    after: Sequence[str] = (),
    through: Callable[[Iterator[Step]], Iterator[Step]] | None = None,
    observed: bool = False,
) -> list[Completion]:
    """One completion per prompt, decoded as one batch. Blocks that do not divide: the canvas is rounded up and the text cut.

    after: one text per prompt that stands behind the gap of max_new_tokens positions and is given as well; none: nothing stands there.
    through: sees every step and passes it on, as remask.trace.terminal.watch does.  observed: it reads the belief at every position, as remask.trace.record.record does.
    """
    ids = [encode(model, prompt, chat=chat, unconditional=unconditional) for prompt in prompts]
    if after and len(after) != len(prompts):
        raise RemaskError(f"{len(after)} texts stand behind {len(prompts)} prompts; give one each, or none")
    ends = [model.tokenizer.continuation(text) for text in after] or [[]] * len(ids)
    return complete(
        model, ids, ends, max_new_tokens=max_new_tokens, decoder=decoder, window=window, reuse=reuse, shapers=shapers, seed=seed, early_stop=early_stop, through=through,
        observed=observed,
    )  # fmt: skip


def complete(
    model: Any,
    ids: Sequence[list[int]],
    ends: Sequence[list[int]],
    *,
    max_new_tokens: int,
    decoder: Decoder = LowConfidence(),
    window: Window = Whole(),
    reuse: Reuse = Fresh(),
    shapers: Sequence[Shaper] = (),
    seed: int | Sequence[int] = 0,
    early_stop: bool = True,
    through: Callable[[Iterator[Step]], Iterator[Step]] | None = None,
    observed: bool = False,
) -> list[Completion]:
    """`generate` of texts that are tokens already: what stands before each gap, and behind it."""
    if max_new_tokens < 1:
        raise RemaskError(f"max_new_tokens is {max_new_tokens}; ask for 1 or more")
    gaps = [max_new_tokens if end else room(window, prompt, max_new_tokens, model.mask_id) for prompt, end in zip(ids, ends, strict=True)]
    rows = [prompt + [model.mask_id] * gap + end for prompt, gap, end in zip(ids, gaps, ends, strict=True)]
    window, _ = window.opened(max_new_tokens)
    canvas = Canvas.from_prompts(rows, mask_id=model.mask_id, device=getattr(model, "device", None))
    started, last = time.perf_counter(), None
    steps = denoise(model, canvas, decoder=decoder, window=window, reuse=reuse, shapers=shapers, seed=seed, early_stop=early_stop, observed=observed)
    for last in steps if through is None else through(steps):
        pass
    seconds = time.perf_counter() - started
    assert last is not None
    stops = end_ids(model)
    completions: list[Completion] = []
    numbers = (last.canvas.tokens, last.canvas.real, last.forwards, last.positions)  # once for the batch: the host waits for a device each time
    for prompt, tokens, real, forwards, positions in zip(ids, *(tensor.tolist() for tensor in numbers), strict=True):
        made = slice(len(prompt), len(prompt) + max_new_tokens)
        kept = before_end([token for token, own in zip(tokens[made], real[made], strict=True) if own], stops)
        completions.append(Completion(model.tokenizer.decode(kept), kept, Stats(forwards, positions, len(kept), seconds)))
    return completions


def encode(model: Any, prompt: str, *, chat: bool = False, unconditional: bool = False) -> list[int]:
    """The ids of a prompt, through the chat template if asked for."""
    if model.tokenizer is None:
        raise RemaskError("this checkpoint has no tokenizer files; put tokenizer.json beside config.json, or use remask.decode with ids")
    if not prompt and not unconditional:
        raise RemaskError("the prompt is empty; give a text, or ask for unconditional generation (--unconditional)")
    return model.tokenizer.encode(model.tokenizer.chat([{"role": "user", "content": prompt}]) if chat else prompt)
