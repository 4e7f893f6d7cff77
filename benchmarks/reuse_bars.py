"""SureLock against its bars: the table over eps and gate, alone and inside a cache, with the options that repair it; every rule in one run.

    python benchmarks/reuse_bars.py sudoku --items 2000 --device cuda
    python benchmarks/reuse_bars.py wordmath:operations=2+4,max_new_tokens=120 --items 2000 --batch 500 --dtype bfloat16 --device cuda
    python benchmarks/reuse_bars.py wordmath:operations=2+4,max_new_tokens=128 --items 2000 --batch 500 --dtype bfloat16 --window blocks:32 --device cuda

Bars: alone at most 0.70 of the FLOPs at no more than 1 point lost; inside the cache at least 15 % fewer than the cache alone at no more than 1 point lost
against it. Decoder: one token per forward, early stop as in `remask bench`. Intervals: 95 % paired bootstrap. float32, unless --dtype says otherwise.
A table is printed, and --out written, after every batch of items, so that a run that is ended tells what it found.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path
from typing import Any

import torch

import remask
from remask.evaluation import tasks
from remask.evaluation.reuse import REFERENCE, compare
from remask.files import write_json

EPS = ["5e-5", "5e-4", "5e-3", "5e-2"]
GATES = ["10", "20", "40"]
REPAIRS = ["recheck=4", "recheck=8", "recheck=16", "prompt_after=1", "every=8", "every=8,recheck=8"]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("task")
    arguments.add_argument("--items", type=int, default=2000)
    arguments.add_argument("--batch", type=int, default=100)
    arguments.add_argument("--window", default="whole")
    arguments.add_argument("--cache", default="dual", help="e.g. dual or dual:refresh=8; none: SureLock alone")
    arguments.add_argument("--only-inside", action="store_true", help="SureLock inside the cache, not alone")
    arguments.add_argument("--eps", nargs="+", default=EPS)
    arguments.add_argument("--gates", nargs="+", default=GATES)
    arguments.add_argument("--options", nargs="*", default=REPAIRS, help="of surelock, at the default eps and gate")
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--dtype", default="float32")
    arguments.add_argument("--out", type=Path)
    chosen = arguments.parse_args()
    torch.set_flush_denormal(True)  # on a CPU the feed-forwards of `demo` are many times slower with them
    task = tasks.get(chosen.task)
    model = remask.load(task.model, device=chosen.device, dtype=chosen.dtype)
    items = task.sample(chosen.items, seed=0, split="test")
    alone = [f"surelock:eps={eps},gate={gate}" for eps, gate in itertools.product(chosen.eps, chosen.gates)] + [f"surelock:{option}" for option in chosen.options]
    join = "," if ":" in chosen.cache else ":"
    inside = {f"{chosen.cache}{join}inner=({rule})": chosen.cache for rule in alone} if chosen.cache != "none" else {}
    window = remask.parse_window(chosen.window)
    rules = {
        spec: {"reuse": remask.parse_reuse(spec), "window": window} for spec in [REFERENCE, *([chosen.cache] if inside else []), *([] if chosen.only_inside else alone), *inside]
    }
    for found in compare(model, items, rules, max_new_tokens=task.max_new_tokens, batch=chosen.batch, against=inside):
        if chosen.out is not None:
            write_json(chosen.out, {"task": chosen.task, "window": chosen.window, "reuse": found})
        show(found, f"{chosen.task}, {found[REFERENCE]['items']} of {len(items)} test items, window {chosen.window}")


def show(found: dict[str, dict[str, Any]], title: str) -> None:
    """One table of what is known so far."""
    print(f"{title}, {found[REFERENCE]['environment']}")
    print("| rule | accuracy | difference | FLOPs | flipped | against the cache | FLOPs against it |\n|---|---|---|---|---|---|---|")
    for spec, made in found.items():
        mean, low, high = made["difference"]
        other = "| | |"
        if "against" in made:
            shift, least, most = made["against"]["difference"]
            other = f"| {shift:+.3f} ({least:+.3f} to {most:+.3f}) | {made['against']['flops_ratio']:.3f} |"
        print(f"| `{spec}` | {made['accuracy']:.3f} | {mean:+.3f} ({low:+.3f} to {high:+.3f}) | {made['flops_ratio']:.3f} | {made['flip_rate']:.4f} {other}", flush=True)


if __name__ == "__main__":
    main()
