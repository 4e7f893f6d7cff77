"""Training throughput: tokens per second and the share of the bf16 ceiling, MDLM beside DSL at two sizes, and the judge.

    python benchmarks/training.py --device cuda            # one GPU; the ceiling is measured in the same run
    python benchmarks/training.py --device cuda --only "mdlm large" --profile     # the kernels of a step, the longest first
    python benchmarks/training.py --tiny                   # that it works, on a CPU

Steps are those of `remask train` (remask.training.run.Run: compiled, captured as a graph on a GPU) on random ids, so that data cost nothing. Networks take turns; a turn
is --steps steps, and the medians and ranges are over --turns turns after one that is not counted. Operations counted for a token, forward and backward: 6 for every weight
of a product it goes through (the blocks', the head's, the converter's two), 12 L D a layer for attention. Recomputed and elementwise work is not counted.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from remask.cli.train import load_recipe
from remask.training.localisation import Localisation
from remask.training.objectives import Localising, Predicting, Unmasking
from remask.training.run import Recipe, Run

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
fiction, dsl, judge = (load_recipe(RECIPES / f"{name}.py") for name in ("fiction", "fiction_dsl", "fiction_judge"))
LARGE = {"hidden_dim": 512, "n_blocks": 8, "n_heads": 8}
TINY = {"hidden_dim": 32, "n_blocks": 1, "n_heads": 2, "hidden_size": 32, "num_layers": 1, "num_heads": 2, "intermediate_size": 48, "vocab_size": 4096}


@dataclass(frozen=True)
class Contender:
    """A network's config and how it is trained."""

    config: Mapping[str, Any]
    corrupt: Any
    objective: Any


def contenders() -> dict[str, Contender]:
    """The shipped sizes, and 29M parameters."""
    noise = Localisation(dsl.CODE_DIM, mu=dsl.MU, sigma=dsl.SIGMA)
    return {
        "mdlm": Contender(fiction.CONFIG, fiction.corrupt, Unmasking("flat")),
        "dsl": Contender(dsl.CONFIG, noise, Localising()),
        "mdlm large": Contender({**fiction.CONFIG, **LARGE}, fiction.corrupt, Unmasking("flat")),
        "dsl large": Contender({**dsl.CONFIG, **LARGE}, noise, Localising()),
        "judge": Contender(judge.CONFIG, lambda batch, generator: (), Predicting()),
    }


def operations(config: Mapping[str, Any], length: int) -> float:
    """Floating-point operations of a token in a training step."""
    vocabulary = config["vocab_size"]
    if "hidden_size" in config:
        width, layers, inner = config["hidden_size"], config["num_layers"], config["intermediate_size"]
        weights = layers * (4 * width**2 + 3 * width * inner) + vocabulary * width
    else:
        width, layers = config["hidden_dim"], config["n_blocks"]
        weights = layers * 12 * width**2 + vocabulary * width
        weights += vocabulary * (config["code_dim"] + width) if "code_dim" in config else 0
    return 6.0 * weights + 12.0 * layers * width * length


def ceiling(device: torch.device, size: int) -> float:
    """Operations per second of a bf16 product of square matrices, the median of 20."""
    a, b = (torch.randn(size, size, device=device, dtype=torch.bfloat16) for _ in range(2))
    times = [timed(lambda: a @ b, device) for _ in range(25)][5:]
    return 2 * size**3 / statistics.median(times)


def timed(work: Any, device: torch.device) -> float:
    """Seconds until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started


def start(name: str, contender: Contender, folder: Path, device: str, rows: int, compiled: bool) -> Run:
    """A run on random ids."""
    ids = torch.randint(fiction.EOS, (1_000_000,), dtype=torch.int32)
    plan = Recipe(
        name=name, config=contender.config, source=lambda where, rank, size: fiction.Windows(ids, where, rank, size, rows=rows), corrupt=contender.corrupt,
        objective=contender.objective, write_tokenizer=lambda where: None, steps=10**6, matrix_rate=1e-3, other_rate=1e-4, weight_decay=0.2,
    )  # fmt: skip
    return Run(plan, folder / name.replace(" ", "_"), init=None, device=device, compiled=compiled)


def turn(run: Run, steps: int) -> None:
    """Some steps of training."""
    for batch in run.batches(run.step + steps):
        run.learn(batch)


def profile(name: str, run: Run, steps: int = 3, most: int = 25) -> None:
    """Print microseconds a step and launches of the kernels, the longest first."""
    on_gpu = run.device.type == "cuda"
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA if on_gpu else torch.profiler.ProfilerActivity.CPU]) as found:
        spent = timed(lambda: turn(run, steps), run.device)
    lines = sorted(((event.device_time_total if on_gpu else event.self_cpu_time_total, event.count, event.key) for event in found.key_averages()), reverse=True)
    print(f"{name}: {1e6 * spent / steps:.0f} us a step, kernels {sum(time for time, _, _ in lines) / steps:.0f} us")
    for time_, count, key in lines[:most]:
        print(f"{time_ / steps:10.1f} us {count / steps:6.1f}  {key[:140]}")


def main(arguments: Sequence[str] | None = None) -> list[dict[str, Any]]:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", nargs="+", choices=list(contenders()), default=list(contenders()))
    parser.add_argument("--rows", type=int, default=fiction.ROWS)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--no-compile", action="store_true")
    parser.add_argument("--profile", action="store_true", help="the kernels of a step besides")
    parser.add_argument("--tiny", action="store_true", help="small networks, 2 rows, 1 step, 2 turns, not compiled")
    chosen = parser.parse_args(arguments)
    tiny, device = chosen.tiny, torch.device(chosen.device)
    rows, steps, turns = (2, 1, 2) if tiny else (chosen.rows, chosen.steps, chosen.turns)
    torch.set_float32_matmul_precision("high")
    torch._dynamo.config.recompile_limit = 64  # several networks share the code of one block
    made = {name: contenders()[name] for name in chosen.only}
    if tiny:
        made = {name: Contender({**one.config, **{key: TINY[key] for key in TINY if key in one.config}}, one.corrupt, one.objective) for name, one in made.items()}
    peak = ceiling(device, 128 if tiny else 8192)
    seconds: dict[str, list[float]] = {name: [] for name in made}
    with tempfile.TemporaryDirectory() as folder:
        runs = {name: start(name, one, Path(folder), chosen.device, rows, compiled=not (tiny or chosen.no_compile)) for name, one in made.items()}
        for number in range(turns + 1):
            for name, run in runs.items():
                spent = timed(lambda run=run: turn(run, steps), device)
                if number:
                    seconds[name].append(spent / steps)
        if chosen.profile:
            for name, run in runs.items():
                profile(name, run)
    return report(made, {name: sum(p.numel() for p in run.model.parameters()) for name, run in runs.items()}, seconds, rows, peak, device)


def report(made: Mapping[str, Contender], sizes: Mapping[str, int], seconds: Mapping[str, Sequence[float]], rows: int, peak: float, device: torch.device) -> list[dict[str, Any]]:
    """Printed and returned: a line a network, then what DSL costs more than MDLM of its size, turn by turn."""
    card = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{card}, torch {torch.__version__}: bf16 ceiling {peak / 1e12:.2f} TFLOP/s; {rows} rows of {fiction.LENGTH}")
    lines: list[dict[str, Any]] = []
    for name, one in made.items():
        speeds = [rows * fiction.LENGTH / spent for spent in seconds[name]]
        done = operations(one.config, fiction.LENGTH) * statistics.median(speeds)
        lines.append(
            {"name": name, "parameters": sizes[name], "tokens_per_second": statistics.median(speeds), "range": [min(speeds), max(speeds)], "flops": done, "share": done / peak}
        )
    for kind in ("", " large"):
        if f"mdlm{kind}" in made and f"dsl{kind}" in made:
            more = [after / before - 1 for before, after in zip(seconds[f"mdlm{kind}"], seconds[f"dsl{kind}"], strict=True)]
            lines.append({"name": f"dsl over mdlm{kind}", "overhead": statistics.median(more), "range": [min(more), max(more)]})
    for line in lines:
        print(json.dumps(line))
    return lines


if __name__ == "__main__":
    main()
