"""Rows of text and what is known of each: a line per row, resumable, and a summary of many with intervals."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from remask.canvas import Canvas
from remask.continuous import Discrete, Sampler
from remask.errors import RemaskError
from remask.evaluation.intervals import mean_interval
from remask.evaluation.results import append_records, read_records
from remask.evaluation.text.judge import features, negative_log_likelihood, sample
from remask.evaluation.text.pseudo_mauve import pseudo_mauve
from remask.evaluation.text.statistics import distinct, repetition, unigram_entropy
from remask.models.causal import Causal
from remask.shapers import Shaper

Rows = Callable[[list[int]], tuple[Tensor, Tensor]]
"""Indices of rows -> their tokens (B, L) and the forwards of each (B,); row i must not depend on which others are asked with it."""

AVERAGED = ("nll", "entropy", "distinct_1", "distinct_2", "distinct_3", "repetition", "forwards")


def drawn(model: Any, sampler: Sampler, length: int, *, shapers: Sequence[Shaper] = (), seed: int = 0) -> Rows:
    """Unconditional rows of a masked diffusion network; row i has seed + i."""
    if isinstance(sampler, Discrete) and not (sampler.decoder.draws or any(shaper.draws for shaper in shapers)):
        raise RemaskError(f"{sampler.decoder!r} proposes the likeliest token, so that all rows would be equal; add a temperature")
    if sampler.states and not hasattr(model, "read"):
        raise RemaskError(f"{sampler!r} walks a continuous state and this checkpoint reads none; use a DSL checkpoint, or a decoder")

    def rows(indices: list[int]) -> tuple[Tensor, Tensor]:
        canvas = Canvas.from_prompts([[]] * len(indices), max_new_tokens=length, mask_id=model.mask_id, device=getattr(model, "device", None))
        found = sampler.decode(model, canvas, shapers=shapers, seed=[seed + index for index in indices])
        return torch.stack(found.tokens), found.forwards

    return rows


def of_judge(judge: Causal, length: int, *, shapers: Sequence[Shaper] = (), seed: int = 0) -> Rows:
    """The judge's own rows, an anchor: as likely as it expects text to be; length forwards each."""

    def rows(indices: list[int]) -> tuple[Tensor, Tensor]:
        tokens = sample(judge, len(indices), length, seed=[seed + index for index in indices], shapers=shapers)
        return tokens, torch.full((len(indices),), length, dtype=torch.int64)

    return rows


def cut(stream: Tensor, length: int, first: int = 0) -> Rows:
    """Real rows: windows of a stream of ids one after the other, from window `first` on; no forwards."""

    def rows(indices: list[int]) -> tuple[Tensor, Tensor]:
        if indices and (first + max(indices) + 1) * length > len(stream):
            raise RemaskError(f"row {first + max(indices)} of {length} tokens is behind the end of a text of {len(stream)}; ask for fewer rows")
        tokens = torch.stack([stream[(first + index) * length : (first + index + 1) * length] for index in indices]).long()
        return tokens, torch.zeros(len(indices), dtype=torch.int64)

    return rows


def measure(rows: Rows, count: int, judge: Causal, *, setting: str, out: Path | None = None, batch: int = 32, report: Callable[[int], None] | None = None) -> list[dict[str, Any]]:
    """One record a row: its tokens, mean nats a token under the judge, entropy, distinct n-grams, repetition, forwards.

    With `out`, records are appended as JSON lines after each batch and those already there are kept; `setting` says what made them.
    """
    if batch < 1:
        raise RemaskError(f"batch is {batch}; use 1 or more")
    done = read_records(out) if out is not None else {}
    for record in done.values():
        if record.get("setting") != setting:
            raise RemaskError(f"{out} holds results of {record.get('setting')!r}, not of {setting!r}; name another folder")
    waiting = [index for index in range(count) if index not in done]
    for start in range(0, len(waiting), batch):
        chosen = waiting[start : start + batch]
        tokens, forwards = rows(chosen)
        made = described(tokens, forwards, judge)
        done |= {index: {"index": index, "setting": setting, **record} for index, record in zip(chosen, made, strict=True)}
        if out is not None:
            append_records(out, (done[index] for index in chosen))
        if report is not None:
            report(len(done))
    return [done[index] for index in range(count)]


def described(tokens: Tensor, forwards: Tensor, judge: Causal) -> list[dict[str, Any]]:
    """The record of each row, its place and setting aside."""
    columns: dict[str, Tensor] = {
        "forwards": forwards,
        "nll": negative_log_likelihood(judge, tokens).double().mean(1),
        "entropy": unigram_entropy(tokens),
        **{f"distinct_{n}": distinct(tokens, n) for n in (1, 2, 3)},
        "repetition": repetition(tokens),
        "tokens": tokens,
    }
    lists = {name: column.cpu().tolist() for name, column in columns.items()}
    return [{name: values[row] for name, values in lists.items()} for row in range(len(tokens))]


def summarise(records: Sequence[dict[str, Any]], judge: Causal, real: Tensor | None = None) -> dict[str, Any]:
    """Means with 95 % bootstrap intervals over rows; with `real` rows (N, L), the pseudo-MAUVE against them as mean, least and most over k-means seeds."""
    found: dict[str, Any] = {"rows": len(records), "setting": records[0]["setting"]}
    for name in AVERAGED:
        found[name] = mean_interval([record[name] for record in records])
    if real is not None:
        tokens = torch.tensor([record["tokens"] for record in records])
        scores = pseudo_mauve(features(judge, tokens), features(judge, real))
        found["pseudo_mauve"] = (sum(scores) / len(scores), min(scores), max(scores))
    return found
