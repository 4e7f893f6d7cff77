"""The frontier of a decoder: accuracy against forwards over a sweep of its settings, chosen on one split and reported on another."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from remask.decoders.joint_threshold import PRESETS
from remask.errors import RemaskError
from remask.evaluation.against import at_equal_forwards
from remask.evaluation.example import example, is_whole
from remask.evaluation.harness import Encoded, encoded, environment, evaluate, results_of, summarise
from remask.evaluation.intervals import paired_difference
from remask.evaluation.tasks.base import Item
from remask.files import write_json
from remask.spec import spec as spec_of

STATIC = (*(round(0.05 * k, 2) for k in range(6, 20)), 0.97, 0.98, 0.99, 0.995, 0.999)
"""Thresholds of the static frontier: 0.30 to 0.95 by 0.05, then towards 1, so that it reaches the accuracies that other rules do."""

REFERENCE = "low_confidence"
"""One token per forward: what a loss of accuracy and a saving of forwards are counted from."""

LOSS = 0.01
"""The accuracy that a setting may lose to be listed in the table of losses."""

RISKS = ((0.001, 0.01), (0.001, 0.05), (0.005, 0.05), (0.01, 0.05), (0.01, 0.1), (0.01, 0.2), (0.02, 0.2), (0.02, 0.4), (0.05, 0.2), (0.05, 0.4), (0.1, 0.5), (0.3, 0.7))
SHARED_RISKS = ((0.1, 0.1), (0.25, 0.2), (0.5, 0.2), (0.5, 0.4))
LEFT_RISKS = (0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.3)
"""Pairs of `budget` and `last`; the second ones divide the budget by the number that is written, the third ones, budgets with last=0.2, have left=1."""

STEPS = (2, 4, 8, 16, 32)
SWEEPS: dict[str, tuple[str, ...]] = {
    "threshold": tuple(f"threshold:tau={tau}" for tau in STATIC),
    "factor": tuple(f"factor:f={f}" for f in (0.25, 0.5, 0.75, 1.0, 1.5, 2.0)),
    "risk": (
        *(f"risk:budget={budget},last={last}" for budget, last in RISKS),
        *(f"risk:budget={budget},last={last},together=1" for budget, last in SHARED_RISKS),
        *(f"risk:budget={budget},last=0.2,left=1" for budget in LEFT_RISKS),
    ),
    "entropy_bound": tuple(f"entropy_bound:gamma={gamma}" for gamma in (0.001, 0.01, 0.05, 0.1, 0.3, 1.0)),
    "klass": tuple(f"klass:tau={tau},eps={eps}" for tau in (0.6, 0.9) for eps in (0.01, 0.1)),
    "local_leap": tuple(f"local_leap:tau={tau},near={near}" for tau, near in ((0.7, 0.5), (0.8, 0.6), (0.9, 0.75), (0.95, 0.85))),
    "hierarchy": tuple(f"hierarchy:tau={tau},low={low}" for tau, low in ((0.8, 0.3), (0.9, 0.4), (0.95, 0.6), (0.99, 0.8))),
    "slow_fast": tuple(f"slow_fast:tau={tau}{slow}" for tau in (0.6, 0.7, 0.8, 0.85, 0.9, 0.95) for slow in ("", f",slow_tau={tau}")),
    "credit": tuple(f"credit:tau={tau}" for tau in (0.7, 0.8, 0.9, 0.95, 0.99)),
    "prophet": ("prophet", *(f"prophet:early={k},middle={k},late={k}" for k in (3, 5, 7, 9))),
    "joint_threshold": (*map(spec_of, PRESETS.values()), "joint_threshold:write_tau=0.7,edit_tau=0.9", "joint_threshold:write_tau=0.7,edit_tau=0.9,remask=true"),
    "saber": ("saber:least=1", "saber:least=2", "saber:least=4"),
    "dus": ("dus", "dus:skip=2", "dus:skip=3", "dus:threshold=0.5", "dus:threshold=0.9"),
    **{name: (name, *(f"{name}:steps={steps}" for steps in STEPS)) for name in ("low_confidence", "random", "origin", "maskgit_plus", "topk_margin", "entropy", "pc", "halton")},
    "ancestral": tuple(f"ancestral:steps={steps}" for steps in (*STEPS, 64)),
    "first_hitting": ("first_hitting",),
    "remdm": tuple(f"remdm:steps={steps}{more}" for steps in (8, 16, 32, 64) for more in ("", ",strategy=conf")),
    "remdm_llada": tuple(f"remdm_llada:steps={steps},loops={loops}" for steps in STEPS[2:] for loops in (4, 16)),
    "p2": tuple(f"p2:steps={steps},eta={eta}" for steps in (8, 16, 32) for eta in (1.0, 2.0)),
    "core": ("core", *(f"core:steps={steps},every={max(2, steps // 4)},reviews=2" for steps in STEPS[1:])),
    "wino": tuple(f"wino:tau={tau},check={check}" for tau, check in ((0.5, 0.9), (0.6, 0.9), (0.7, 0.7), (0.8, 0.9), (0.9, 0.9))),
    "spaced": tuple(f"spaced:inner=(threshold:tau={tau}),g0={g0}" for tau in (0.5, 0.7, 0.9) for g0 in (2, 8)),
    "starr": tuple(
        f"starr:c_fast={fast},c_slow={slow},spatial={spatial}"
        for fast, slow in ((0.7, 0.5), (0.8, 0.6), (0.9, 0.6), (0.9, 0.8), (0.95, 0.8), (0.99, 0.9), (0.999, 0.99))
        for spatial in ("abs", "neg")
    )
    + tuple(f"starr:c_fast={fast},c_slow={slow},signals=distribution" for fast, slow in ((0.8, 0.6), (0.9, 0.6), (0.95, 0.8))),
}
"""What a bare name stands for; a decoder that is not here is run as it is written."""


Records = Sequence[dict[str, Any]]
"""What the harness writes, a dictionary an item."""


@dataclass(frozen=True)
class Point:
    """One setting on the reported split, its example the first item while it is written. Differences are of accuracy, with 95 % paired bootstrap intervals.

    positions: computed a row.  lost: against one token per forward.  gained: against the static threshold's frontier at equal forwards, None outside it.
    kept: the accuracy on the split that settings are chosen on, less that of one token per forward.
    """

    decoder: str
    spec: str
    accuracy: float
    interval: tuple[float, float]
    forwards: float
    tokens_per_forward: float
    example: str
    lost: tuple[float, float, float] = (0.0, 0.0, 0.0)
    gained: tuple[float, float, float] | None = None
    kept: float = 0.0
    positions: float = 0.0


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


@dataclass(frozen=True)
class Runs:
    """The results in a folder, by spec and split: those that are there, and with `decode` those that are missing, which are made. report: takes what, done, of how many."""

    model: Any
    folder: Path
    items: Mapping[str, Sequence[Item]]
    make: Callable[[str], dict[str, Any]]
    max_new_tokens: int
    batch: int
    seed: int
    decode: bool
    report: Callable[[str, int, int], None] | None

    @cached_property
    def asked(self) -> dict[str, Encoded]:
        """The prompts of each split, encoded once for all settings."""
        return {split: encoded(self.model, items) for split, items in self.items.items()}

    def records(self, spec: str, split: str) -> Records:
        """A record an item; without `decode` none at all if an item's is missing."""
        items, out = self.items[split], self.folder / split / (file_name(spec) + ".jsonl")
        if not self.decode:
            found = results_of(items, out)
            return [found[index] for index in range(len(items))] if len(found) == len(items) else []

        def told(done: int) -> None:
            if self.report is not None:
                self.report(f"{split} {spec}", done, len(items))

        given = {"max_new_tokens": self.max_new_tokens, "batch": self.batch, "seed": self.seed, **self.make(spec)}
        return evaluate(self.model, items, out=out, asked=self.asked[split], report=told, **given)

    def reference(self, split: str) -> Records:
        """Those of one token per forward."""
        if found := self.records(REFERENCE, split):
            return found
        raise RemaskError(f"{self.folder} does not hold {REFERENCE} on the {split} items yet, and the others are compared with it; continue the run")

    def example(self, spec: str) -> str:
        """The first test item while it is written, traced in examples/; without `decode` empty if that trace is not whole."""
        path = self.folder / "examples" / (file_name(spec) + ".jsonl")
        if not self.decode and not is_whole(path):
            return ""
        return example(self.model, self.items["test"][0], path, max_new_tokens=self.max_new_tokens, seed=self.seed, **self.make(spec))


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
    sweep: bool = True,
    decode: bool = True,
    about: dict[str, Any] | None = None,
    report: Callable[[str, int, int], None] | None = None,
) -> list[Point]:
    """Sweep on `valid`, freeze what is on each decoder's frontier, report it on `test`. Every result is kept in `folder` and not computed again.

    The first point is the reference, one token per forward. The first test item is traced under every point, in examples/.
    sweep: False runs names as they are written.  about: goes into every line of frontier.jsonl.
    decode: False reports the settings whose results `folder` holds whole, of a run that was cut off or that goes on meanwhile, on any device: settings it did
    not come to are left out, and of the folder only frontier.jsonl is written.
    """
    where = environment(model) if decode else noted(folder / "environment.json")
    depends = {**(about or {}), "seed": seed, "max_new_tokens": max_new_tokens, "device": where["device"], "dtype": where["dtype"]}
    check_same_run(folder, depends)
    if decode:
        begin(folder, depends, where)
    runs = Runs(model, folder, {"valid": valid, "test": test}, make, max_new_tokens, batch, seed, decode, report)
    frozen = freeze(runs, {name: settings(name) if sweep else (name,) for name in names})
    points = points_of(runs, frozen)
    more = {**(about or {}), "chosen_on": len(valid), "items": len(test), "batch": batch, "max_new_tokens": max_new_tokens, "environment": where}
    save(folder / "frontier.jsonl", points, more)
    return points


def freeze(runs: Runs, swept: Mapping[str, Sequence[str]]) -> dict[tuple[str, str], float]:
    """(decoder, spec) -> accuracy on the valid split less the reference's, of the reference and of what is on each decoder's frontier there."""
    base = summarise(runs.reference("valid"), runs.model)["accuracy"]
    frozen = {(REFERENCE, REFERENCE): 0.0}
    for name, specs in swept.items():
        found = {spec: summarise(records, runs.model) for spec in specs if (records := runs.records(spec, "valid"))}
        best = chosen({spec: (summary["forwards_per_row"], summary["accuracy"]) for spec, summary in found.items()})
        frozen |= {(name, spec): found[spec]["accuracy"] - base for spec in best}
    return frozen


def points_of(runs: Runs, frozen: Mapping[tuple[str, str], float]) -> list[Point]:
    """The frozen settings that have results on the test split, beside the reference and the static threshold."""
    reference = runs.reference("test")
    made = {spec: records for _, spec in frozen if (records := runs.records(spec, "test"))}
    static = [made[spec] for name, spec in frozen if name == "threshold" and spec in made]
    examples = {spec: runs.example(spec) for spec in made}
    points: list[Point] = []
    for (name, spec), difference in frozen.items():
        if spec in made:
            summary = summarise(made[spec], runs.model)
            points.append(
                Point(
                    decoder=name,
                    spec=spec,
                    accuracy=summary["accuracy"],
                    interval=summary["interval"],
                    forwards=summary["forwards_per_row"],
                    tokens_per_forward=summary["tokens_per_forward"],
                    example=examples[spec],
                    lost=paired_difference(rights(made[spec]), rights(reference)),
                    gained=None if name == "threshold" else at_equal_forwards(made[spec], static),
                    kept=difference,
                    positions=summary["positions_per_row"],
                )
            )
    return points


def rights(records: Records) -> list[bool]:
    """Whether each item was answered rightly."""
    return [record["right"] for record in records]


def save(path: Path, points: Sequence[Point], more: dict[str, Any]) -> None:
    """A line a point, each with its decoder's area and with what they share."""
    areas = areas_of(points)
    lines = [json.dumps({**asdict(point), "area": areas[point.decoder], **more}, ensure_ascii=False) for point in points]
    path.write_text("".join(line + "\n" for line in lines), encoding="utf-8")


def check_same_run(folder: Path, depends: dict[str, Any]) -> None:
    """Raise if `folder` notes that its results depend on something else, besides decoder and item."""
    before = noted(path) if (path := folder / "run.json").exists() else depends
    for name in {**before, **depends}:
        if before.get(name) != depends.get(name):
            raise RemaskError(f"{folder} holds results with {name} {before.get(name)}, not {depends.get(name)}; name another folder")


def begin(folder: Path, depends: dict[str, Any], where: dict[str, str]) -> None:
    """Make the folders, and note what the results depend on and where they are made."""
    for name in ("valid", "test", "examples"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    write_json(folder / "run.json", depends)
    write_json(folder / "environment.json", where)


def noted(path: Path) -> dict[str, Any]:
    """What a run noted of itself."""
    if not path.exists():
        raise RemaskError(f"{path} is not there, so no run was begun in this folder; name the folder of one")
    return json.loads(path.read_text(encoding="utf-8"))


def at_loss(points: Sequence[Point], loss: float = LOSS) -> dict[str, Point | None]:
    """Of each decoder the setting with the fewest forwards that kept its accuracy within `loss` where settings are chosen; None: it has none."""
    found: dict[str, Point | None] = {}
    for name in dict.fromkeys(point.decoder for point in points):
        within = [point for point in points if point.decoder == name and point.kept >= -loss - 1e-9]
        found[name] = min(within, key=lambda point: point.forwards, default=None)
    return found


def file_name(spec: str) -> str:
    """A spec string as a file's name."""
    return "".join(character if character.isalnum() or character in ".=,-_" else "~" for character in spec)


def areas_of(points: Sequence[Point]) -> dict[str, float]:
    """decoder -> its area up to the most forwards of any, so that areas compare."""
    most = max([2.0, *(point.forwards for point in points)])
    return {name: area([point for point in points if point.decoder == name], most) for name in dict.fromkeys(point.decoder for point in points)}


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
