"""Run a decoder over the items of a task: a line per item, resumable, and a summary that follows the metric contract."""

from __future__ import annotations

import functools
import os
import platform
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

import remask
from remask.denoise import Step
from remask.errors import RemaskError
from remask.evaluation.intervals import wilson
from remask.evaluation.replaying import replayed
from remask.evaluation.results import append_records, read_records
from remask.evaluation.tasks.base import Item
from remask.files import check_settings
from remask.generate import complete, encode

Through = Callable[[Sequence[int], Iterator[Step]], Iterator[Step]]
Encoded = Sequence[tuple[list[int], list[int]]]
"""The tokens before and behind the gap of each item."""


def encoded(model: Any, items: Sequence[Item]) -> Encoded:
    """What every decoder is asked, to be made once for all of them."""
    return [(encode(model, item.prompt), model.tokenizer.continuation(item.after) if item.after else []) for item in items]


def evaluate(
    model: Any,
    items: Sequence[Item],
    *,
    max_new_tokens: int,
    batch: int = 16,
    seed: int = 0,
    out: Path | None = None,
    report: Callable[[int], None] | None = None,
    through: Through | None = None,
    asked: Encoded | None = None,
    settings: Mapping[str, Any] | None = None,
    **parts: Any,
) -> list[dict[str, Any]]:
    """One record per item; item i has seed + i, whatever its batch. With `out`, records are appended as JSON lines after each batch, and those already there are kept.

    through: sees the numbers of a batch's items and its steps, and passes the steps on, as remask.trace.record.record does.
    asked: encoded(model, items), if there is more than one decoder to run.
    settings: what the results depend on besides the items, in values of JSON. They are noted in every record, and a file that notes others, or none, is refused.
    """
    if batch < 1:
        raise RemaskError(f"batch is {batch}; use 1 or more")
    done = {} if out is None else results_of(items, out, settings)
    noted = {} if settings is None else {"settings": dict(settings)}
    waiting = [index for index in range(len(items)) if index not in done]
    for start in range(0, len(waiting), batch):
        chosen = waiting[start : start + batch]
        seen = None if through is None else functools.partial(through, chosen)
        before, behind = zip(*([asked[index] for index in chosen] if asked else encoded(model, [items[index] for index in chosen])), strict=True)
        completions = complete(model, before, behind, max_new_tokens=max_new_tokens, seed=[seed + index for index in chosen], through=seen, **parts)
        for index, completion in zip(chosen, completions, strict=True):
            item, stats = items[index], completion.stats
            costs = {"forwards": stats.forwards, "positions": stats.positions, "generated": stats.generated, "seconds": stats.seconds, "batch": len(chosen)}
            done[index] = {"index": index, "prompt": item.prompt, "text": completion.text, "right": item.check(completion.text), "stratum": item.stratum, **costs, **noted}
        if out is not None:
            append_records(out, (done[index] for index in chosen))
        if report is not None:
            report(len(done))
    return [done[index] for index in range(len(items))]


def results_of(items: Sequence[Item], path: Path, settings: Mapping[str, Any] | None = None) -> dict[int, dict[str, Any]]:
    """index -> record, of what a file holds of these items; RemaskError if it holds results of others, or made under other settings than those named."""
    found = read_records(path)
    for index, record in found.items():
        if index >= len(items) or items[index].prompt != record.get("prompt"):
            raise RemaskError(f"{path} holds results of other items; name another file")
        if settings is not None:
            check_settings(path, record.get("settings"), settings)
    return found


def compare(
    model: Any,
    items: Sequence[Item],
    contenders: Mapping[str, Mapping[str, Any]],
    *,
    max_new_tokens: int,
    batch: int = 16,
    seed: int = 0,
    report: Callable[[int], None] | None = None,
) -> Iterator[dict[str, dict[str, Any]]]:
    """After every batch a summary per contender (its parts as keyword arguments) of all batches so far; one of no items. Recorded passes are replayed (evaluation.replaying)."""
    records: dict[str, list[dict[str, Any]]] = {name: [] for name in contenders}
    for start in range(0, max(1, len(items)), batch):
        chosen = items[start : start + batch]
        asked = encoded(model, chosen)
        for name, parts in contenders.items():
            decode = functools.partial(evaluate, model, chosen, max_new_tokens=max_new_tokens, batch=batch, seed=seed + start, asked=asked, **parts)
            records[name] += replayed(model, decode)
            if report is not None:
                report(sum(map(len, records.values())))
        yield {name: summarise(made, model) for name, made in records.items()}


def summarise(records: Sequence[dict[str, Any]], model: Any) -> dict[str, Any]:
    """Accuracy with its 95 % interval, forwards, tokens per forward, speed, per stratum, and where it was measured."""
    count, right = len(records), sum(record["right"] for record in records)
    forwards, generated = sum(r["forwards"] for r in records), sum(r["generated"] for r in records)
    seconds = sum(r["seconds"] / r["batch"] for r in records)
    strata = {name: [r["right"] for r in records if r["stratum"] == name] for name in sorted({r["stratum"] for r in records})}
    return {
        "items": count,
        "accuracy": right / max(1, count),
        "interval": wilson(right, count),
        "forwards_per_row": forwards / max(1, count),
        "tokens_per_forward": generated / max(1, forwards),
        "positions_per_row": sum(r["positions"] for r in records) / max(1, count),
        "tokens_per_second": generated / seconds if seconds else 0.0,
        "seconds_per_batch": sum(r["seconds"] for r in records) / max(1, count),
        "strata": {name: {"accuracy": sum(flags) / len(flags), "items": len(flags)} for name, flags in strata.items()},
        "environment": environment(model),
    }


def environment(model: Any) -> dict[str, str]:
    """Device, precision, versions, and the commit of a checkout."""
    device = torch.device(getattr(model, "device", "cpu"))
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.machine()
    return {
        "device": f"{device.type} ({name})", "dtype": str(getattr(model, "dtype", "")).removeprefix("torch."), "torch": torch.__version__, "python": platform.python_version(),
        "remask": remask.__version__, "commit": commit(),
    }  # fmt: skip


@functools.cache
def commit() -> str:
    """REMASK_COMMIT, or what git says of the checkout that this file lies in; "unknown" outside one."""
    if found := os.environ.get("REMASK_COMMIT"):
        return found
    here = Path(__file__).resolve().parent
    try:
        asked = subprocess.run(["git", "-C", str(here), "rev-parse", "--show-prefix", "--short", "HEAD"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    prefix, _, name = asked.stdout.strip().partition("\n")
    return name if prefix == "src/remask/evaluation/" else "unknown"  # installed below somebody else's repository
