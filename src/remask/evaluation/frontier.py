"""The frontier of a decoder: accuracy against forwards over a sweep of its settings, chosen on one split and reported on another."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from remask.errors import RemaskError
from remask.evaluation.harness import evaluate, summarise
from remask.evaluation.tasks.base import Item

STATIC = (*(round(0.05 * k, 2) for k in range(6, 20)), 0.97, 0.98, 0.99)
"""Thresholds of the static frontier: 0.30 to 0.95 by 0.05, then .97, .98, .99."""

SWEEPS: dict[str, tuple[str, ...]] = {
    "threshold": tuple(f"threshold:tau={tau}" for tau in STATIC),
    "factor": tuple(f"factor:f={f}" for f in (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)),
    "entropy_bound": tuple(f"entropy_bound:gamma={gamma}" for gamma in (0.001, 0.01, 0.05, 0.1, 0.3, 1.0)),
    "klass": tuple(f"klass:tau={tau},eps={eps}" for tau in (0.6, 0.9) for eps in (0.01, 0.1)),
    "local_leap": tuple(f"local_leap:tau={tau},near={near}" for tau, near in ((0.7, 0.5), (0.8, 0.6), (0.9, 0.75), (0.95, 0.85))),
    "hierarchy": tuple(f"hierarchy:tau={tau},low={low}" for tau, low in ((0.8, 0.3), (0.9, 0.4), (0.95, 0.6), (0.99, 0.8))),
    "slow_fast": tuple(f"slow_fast:tau={tau}{slow}" for tau in (0.6, 0.7, 0.8, 0.85, 0.9, 0.95) for slow in ("", f",slow_tau={tau}")),
    "credit": tuple(f"credit:tau={tau}" for tau in (0.7, 0.8, 0.9, 0.95, 0.99)),
    "prophet": ("prophet", *(f"prophet:early={k},middle={k},late={k}" for k in (3, 5, 7, 9))),
    "joint_threshold": tuple(f"joint_threshold:write_tau={write},edit_tau={edit}" for write, edit in ((0.5, 0.5), (0.7, 0.5), (0.7, 0.9), (0.95, 0.9))),
    "saber": ("saber:least=1", "saber:least=2", "saber:least=4"),
    "dus": ("dus", "dus:skip=2", "dus:skip=3", "dus:threshold=0.5", "dus:threshold=0.9"),
    "low_confidence": ("low_confidence", *(f"low_confidence:steps={steps}" for steps in (2, 4, 8, 16, 32))),
    "topk_margin": ("topk_margin", *(f"topk_margin:steps={steps}" for steps in (2, 4, 8, 16, 32))),
    "starr": tuple(
        f"starr:c_fast={fast},c_slow={slow},spatial={spatial}"
        for fast, slow in ((0.7, 0.5), (0.8, 0.6), (0.9, 0.6), (0.9, 0.8), (0.95, 0.8), (0.99, 0.9))
        for spatial in ("abs", "neg")
    )
    + tuple(f"starr:c_fast={fast},c_slow={slow},signals=distribution" for fast, slow in ((0.8, 0.6), (0.9, 0.6), (0.95, 0.8))),
}
"""What a bare name stands for; a decoder that is not here is run as it is written."""


@dataclass(frozen=True)
class Point:
    """One setting on the reported split. generated: tokens per row; example: the text of its first item."""

    decoder: str
    spec: str
    accuracy: float
    interval: tuple[float, float]
    forwards: float
    tokens_per_forward: float
    example: str


def settings(name: str) -> tuple[str, ...]:
    """The sweep of a bare name, or the spec string itself."""
    return SWEEPS.get(name, (name,))


def chosen(found: dict[str, tuple[float, float]]) -> list[str]:
    """spec -> (forwards, accuracy): the settings that none with as few forwards equals or beats, fewest forwards first."""
    kept: list[str] = []
    best = -1.0
    for spec, (_, accuracy) in sorted(found.items(), key=lambda item: (item[1][0], -item[1][1])):
        if accuracy > best:
            kept.append(spec)
            best = accuracy
    return kept


def frontier(
    model: Any,
    names: Sequence[str],
    valid: Sequence[Item],
    test: Sequence[Item],
    folder: Path,
    *,
    make: Callable[[str], dict[str, Any]],
    max_new_tokens: int,
    batch: int = 16,
    seed: int = 0,
    report: Callable[[str, int], None] | None = None,
) -> list[Point]:
    """Sweep on `valid`, freeze what is on each decoder's frontier, report it on `test`. Every result is kept in `folder` and not computed again."""
    (folder / "valid").mkdir(parents=True, exist_ok=True)
    (folder / "test").mkdir(exist_ok=True)

    def run(spec: str, split: str, items: Sequence[Item]) -> list[dict[str, Any]]:
        out = folder / split / (file_name(spec) + ".jsonl")

        def told(done: int) -> None:
            if report is not None:
                report(f"{split} {spec}", done)

        return evaluate(model, items, max_new_tokens=max_new_tokens, batch=batch, seed=seed, out=out, report=told, **make(spec))

    points: list[Point] = []
    for name in names:
        summaries = {spec: summarise(run(spec, "valid", valid), model) for spec in settings(name)}
        for spec in chosen({spec: (summary["forwards_per_row"], summary["accuracy"]) for spec, summary in summaries.items()}):
            records = run(spec, "test", test)
            s = summarise(records, model)
            points.append(Point(name, spec, s["accuracy"], tuple(s["interval"]), s["forwards_per_row"], s["tokens_per_forward"], records[0]["text"]))
    lines = [json.dumps({**asdict(point), "items": len(test), "environment": summarise([], model)["environment"]}, ensure_ascii=False) for point in points]
    (folder / "frontier.jsonl").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    return points


def file_name(spec: str) -> str:
    """A spec string as a file's name."""
    return "".join(character if character.isalnum() or character in ".=,-_" else "~" for character in spec)


def area(points: Sequence[Point], most: float) -> float:
    """The best accuracy within a budget, averaged over budgets from 1 to `most` forwards on a logarithmic scale."""
    if most <= 1:
        raise RemaskError(f"the largest budget is {most} forwards; an area needs more than 1")
    total, best, place = 0.0, 0.0, 0.0
    for point in sorted(points, key=lambda point: point.forwards):
        here = min(max(math.log(max(point.forwards, 1.0)), place), math.log(most))
        total += best * (here - place)
        place, best = here, max(best, point.accuracy)
    return (total + best * (math.log(most) - place)) / math.log(most)
