"""Text quality against forwards: the same samplers, tuned alike for every network, compared at the entropy of real text.

    python benchmarks/dsl_text.py --model mdlm=runs/control_continued/checkpoint --model dsl=runs/fiction_dsl/checkpoint --judge runs/fiction_judge/checkpoint \\
        --data runs/fiction_data --out runs/dsl_text --device cuda

For every network, sampler and number of forwards: each of the sampler's settings is swept over --top-p on validation seeds; the one with the best judge likelihood at
the entropy of real text (remask.evaluation.text.matched states the rule) is run again with fresh seeds and more rows, at the two values of top-p that enclosed that
entropy, and reported interpolated between them, with a 95 % bootstrap interval over rows. Samplers of the continuous state are left out for networks that read none.
Every row is kept in --out and not made again, so a run may be stopped and continued.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

import remask
from remask.evaluation.harness import environment
from remask.evaluation.text.matched import Sampled, at_entropy, match
from remask.evaluation.text.measure import cut, drawn, measure, of_judge, summarise
from remask.evaluation.text.network import of_network
from remask.models.causal import Causal
from remask.spec import parse_sampler
from remask.training.data import read_stream

SAMPLERS: dict[str, tuple[str, ...]] = {
    "ancestral": ("ancestral:steps={}",),
    "remdm cap": ("remdm:steps={},eta=0.02", "remdm:steps={},eta=0.04", "remdm:steps={},eta=0.1"),
    "remdm loop": ("remdm:steps={},strategy=loop,eta=0.02", "remdm:steps={},strategy=loop,eta=0.08"),
    "remdm conf": ("remdm:steps={},strategy=conf",),
    "remdm doubt": tuple(f"remdm:steps={{}},strategy=doubt,eta={eta}" for eta in (0.01, 0.04, 0.1, 0.2, 0.4, 0.8)),
    "remdm doubt, flatter": tuple(f"remdm:steps={{}},strategy=doubt,eta={eta},power=0.5" for eta in (0.1, 0.2, 0.4)),
    "p2": ("p2:steps={},eta=0.5", "p2:steps={}"),
    "sde": ("sde:forwards={},mu=1.7", "sde:forwards={},mu=2.3", "sde:forwards={},mu=2.9"),
    "native hybrid": ("native:forwards={},mu=1.7", "native:forwards={},mu=2.3"),
    "commit hybrid": ("commit:forwards={},tau=0.7", "commit:forwards={},tau=0.9"),
}
"""Settings tried on validation, {} being the forwards: the same for every network."""
FRESH = 10**6
"""Added to the seeds of the reported rows, so that no setting is reported on the rows that chose it."""


@dataclass(frozen=True)
class Cell:
    """What is reported of one network, sampler and number of forwards.

    nll: nats a token at the target entropy with its interval; entropy: of the settings used. The last four are of the one whose entropy is nearest.
    """

    model: str
    sampler: str
    forwards: int
    spec: str
    top_p: tuple[float, float]
    inside: bool
    nll: tuple[float, float, float]
    entropy: tuple[float, float]
    made_forwards: float
    pseudo_mauve: tuple[float, float, float]
    distinct_2: float
    repetition: float


@dataclass(frozen=True, eq=False)
class Bench:
    """What all cells share. target: the mean unigram entropy of real text, in nats."""

    judge: Causal
    out: Path
    target: float
    real: torch.Tensor
    top_p: Sequence[float]
    length: int
    tune_rows: int
    rows: int
    batch: int

    def run(self, name: str, network: Any, spec: str, top_p: float, *, fresh: bool) -> list[dict[str, Any]]:
        """The rows of one setting."""
        shapers = (remask.Temperature(1.0), *((remask.TopP(top_p),) if top_p < 1 else ()))
        rows = drawn(network, parse_sampler(spec), self.length, shapers=shapers, seed=FRESH if fresh else 0)
        kind = "test" if fresh else "valid"
        file = self.out / name / kind / f"{spec.replace(':', '_').replace(',', '_')}_p{top_p}.jsonl"
        return measure(rows, self.rows if fresh else self.tune_rows, self.judge, setting=f"{name} {spec} top-p {top_p} {kind} {self.length}", out=file, batch=self.batch)

    def sweep(self, name: str, network: Any, spec: str) -> tuple[int, int, bool, float]:
        """The places in the sweep that enclose the target, whether they do, and the likelihood there, on validation seeds."""
        made = [sampled(self.run(name, network, spec, value, fresh=False)) for value in self.top_p]
        found = match([float(one.entropy.mean()) for one in made], self.target)
        return found.low, found.high, found.inside, at_entropy(made[found.low], made[found.high], self.target, draws=1)[0]

    def cell(self, name: str, network: Any, sampler: str, forwards: int) -> Cell:
        """Choose on validation seeds, report on fresh ones. A setting that reaches the target entropy goes before one that does not."""
        specs = [text.format(forwards) for text in SAMPLERS[sampler]]
        swept = {spec: self.sweep(name, network, spec) for spec in specs}
        spec = min(specs, key=lambda spec: (not swept[spec][2], swept[spec][3]))
        low, high, inside, _ = swept[spec]
        records = [self.run(name, network, spec, self.top_p[place], fresh=True) for place in dict.fromkeys((low, high))]
        sides = [sampled(made) for made in records]
        entropies = [float(side.entropy.mean()) for side in sides]
        nearest = min(range(len(records)), key=lambda side: abs(entropies[side] - self.target))
        near = summarise(records[nearest], self.judge, self.real)
        return Cell(
            name, sampler, forwards, spec, (self.top_p[low], self.top_p[high]), inside, at_entropy(sides[0], sides[-1], self.target), (entropies[0], entropies[-1]),
            near["forwards"][0], near["pseudo_mauve"], near["distinct_2"][0], near["repetition"][0],
        )  # fmt: skip


def sampled(records: Sequence[dict[str, Any]]) -> Sampled:
    """The entropies and likelihoods of rows."""
    return Sampled(*(torch.tensor([record[name] for record in records], dtype=torch.float64) for name in ("entropy", "nll")))


def table(cells: Sequence[Cell], budgets: Sequence[int]) -> str:
    """Networks and samplers down, forwards across; a star where the sweep did not reach the entropy of real text."""
    kinds = list(dict.fromkeys((cell.model, cell.sampler) for cell in cells))
    by_place = {(cell.model, cell.sampler, cell.forwards): cell for cell in cells}
    lines = ["| network | sampler | " + " | ".join(map(str, budgets)) + " |", "|---" * (2 + len(budgets)) + "|"]
    for model, sampler in kinds:
        row = [by_place.get((model, sampler, budget)) for budget in budgets]
        shown = ["" if cell is None else f"{cell.nll[0]:.3f} ({cell.nll[1]:.3f}-{cell.nll[2]:.3f}){'' if cell.inside else '*'}" for cell in row]
        lines.append(f"| {model} | {sampler} | " + " | ".join(shown) + " |")
    return "\n".join(lines)


def anchors(bench: Bench) -> list[dict[str, Any]]:
    """Real text and the judge's own rows."""
    own = measure(of_judge(bench.judge, bench.length), bench.rows, bench.judge, setting=f"judge {bench.length}", out=bench.out / "judge.jsonl", batch=bench.batch)
    text = measure(lambda indices: (bench.real[indices], torch.zeros(len(indices))), bench.rows, bench.judge, setting="real text")
    return [{"name": name, **summarise(records, bench.judge)} for name, records in (("real text", text), ("the judge's own", own))]


def main(arguments: Sequence[str] | None = None) -> list[Cell]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", required=True, help="name=folder; may be given many times")
    parser.add_argument("--judge", required=True)
    parser.add_argument("--data", type=Path, required=True, help="the folder that recipes/fiction.py prepared")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--forwards", type=int, nargs="+", default=[8, 16, 32, 64, 128, 256])
    parser.add_argument("--samplers", nargs="+", choices=list(SAMPLERS), default=list(SAMPLERS))
    parser.add_argument("--top-p", type=float, nargs="+", default=[0.8, 0.9, 0.95, 1.0])
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--tune-rows", type=int, default=64)
    parser.add_argument("--rows", type=int, default=256)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--device", default="cpu")
    chosen = parser.parse_args(arguments)
    judge = remask.load(chosen.judge, device=chosen.device)
    assert isinstance(judge, Causal)
    streams = {split: read_stream(chosen.data / f"fiction_{split}.xz") for split in ("valid", "test")}
    valid = cut(streams["valid"], chosen.length)(list(range(min(chosen.rows, len(streams["valid"]) // chosen.length))))[0]
    real = cut(streams["test"], chosen.length)(list(range(chosen.rows)))[0]
    target = summarise(measure(lambda rows: (valid[rows], torch.zeros(len(rows))), len(valid), judge, setting="validation text"), judge)["entropy"][0]
    bench = Bench(judge, chosen.out, target, real, chosen.top_p, chosen.length, chosen.tune_rows, chosen.rows, chosen.batch)
    networks = {name: remask.load(folder, device=chosen.device) for name, _, folder in (text.partition("=") for text in chosen.model)}
    lines: list[dict[str, Any]] = [{"target_entropy": target, "environment": environment(judge)}, *anchors(bench)]
    lines += [{"name": name, **of_network(network, real, batch=min(64, chosen.batch))} for name, network in networks.items()]
    cells: list[Cell] = []
    for forwards in chosen.forwards:
        for sampler in chosen.samplers:
            for name, network in networks.items():
                if hasattr(network, "read") or not parse_sampler(SAMPLERS[sampler][0].format(forwards)).states:
                    cells.append(bench.cell(name, network, sampler, forwards))
                    print(json.dumps(asdict(cells[-1])), flush=True)
    (chosen.out / "cells.jsonl").write_text("".join(json.dumps(line) + "\n" for line in [*lines, *map(asdict, cells)]), encoding="utf-8")
    for line in lines[1:3]:
        print(f"{line['name']}: {line['nll'][0]:.3f} nats a token, entropy {line['entropy'][0]:.3f}")
    print(f"nats a token at entropy {target:.3f}; {chosen.rows} rows of {chosen.length}; {environment(judge)}\n{table(cells, chosen.forwards)}")
    return cells


if __name__ == "__main__":
    main()
