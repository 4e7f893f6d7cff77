"""The frontier of a decoder: accuracy against forwards over a sweep of its settings, chosen on one split and reported on another."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from remask.errors import RemaskError
from remask.evaluation.against import at_equal_forwards
from remask.evaluation.example import example, is_whole
from remask.evaluation.frontier_points import Point, areas_of, chosen
from remask.evaluation.harness import Encoded, encoded, environment, evaluate, results_of, summarise
from remask.evaluation.intervals import paired_difference
from remask.evaluation.sweeps import settings
from remask.evaluation.tasks.base import Item
from remask.files import check_settings, file_name, read_object, write_json, write_whole
from remask.spec import content_settings

REFERENCE = "low_confidence"
"""One token per forward: what a loss of accuracy and a saving of forwards are counted from."""

Records = Sequence[dict[str, Any]]
"""What the harness writes, a dictionary an item."""


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
        items, out, parts = self.items[split], self.folder / split / (file_name(spec) + ".jsonl"), self.make(spec)
        settings = content_settings(parts) or None  # the file is called by the spec, and what all files share is in run.json
        if not self.decode:
            found = results_of(items, out, settings)
            return [found[index] for index in range(len(items))] if len(found) == len(items) else []

        def told(done: int) -> None:
            if self.report is not None:
                self.report(f"{split} {spec}", done, len(items))

        given = {"max_new_tokens": self.max_new_tokens, "batch": self.batch, "seed": self.seed, "settings": settings, **parts}
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
    write_whole(path, "".join(line + "\n" for line in lines))


def check_same_run(folder: Path, depends: dict[str, Any]) -> None:
    """Raise if `folder` notes that its results depend on something else, besides decoder and item."""
    if (path := folder / "run.json").exists():
        check_settings(folder, noted(path), depends, "name another folder")


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
    return read_object(path, remedy="begin anew in another folder")
