"""Peak memory of a decode under each reuse rule, against its formula.

    python benchmarks/reuse_memory.py --length 256 --batch 4
    python benchmarks/reuse_memory.py --device cuda --length 1024 --batch 8

The formula is of what a rule keeps beyond the run without reuse: keys and values, 2 layers B L width numbers for a rule that computes single positions; and, for
`surelock:every=n`, the logits of the last look, B L V float32. Measured: the peak of all that torch allocated above the weights, over a whole decode (on a CPU
from the profiler's memory records, on a GPU from the allocator), less that of `fresh`. Random weights of the shape of `demo`; decoder low_confidence, a quarter
of the canvas is prompt, blocks of 32 for the rules that go by blocks. What a rule's arithmetic needs for a moment (posteriors of the gate's positions, the
copies of a pass over chosen positions) and what it saves (a smaller pass needs smaller activations) is in the measured column and not in the formula.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from reuse import network

import remask
from remask.canvas import Canvas
from remask.reuse.base import Reuse
from remask.reuse.surelock import SureLock

RULES = ["fresh", "unchanged", "prefix", "dual", "delayed", "vicinity", "surelock", "surelock:every=8", "dual:inner=(surelock)"]


def decode(model: Any, canvas: Canvas, reuse: Reuse, passes: int) -> None:
    """All steps; none is kept."""
    window = remask.Blocks(32) if isinstance(reuse, remask.Prefix | remask.Dual | remask.Vicinity) else remask.Whole()
    for _ in remask.denoise(model, canvas, decoder=remask.LowConfidence(steps=passes), window=window, reuse=reuse):
        pass


def peak(model: Any, canvas: Canvas, reuse: Reuse, passes: int) -> int:
    """Bytes above what was allocated before."""
    if canvas.tokens.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        decode(model, canvas, reuse, passes)
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as seen:
        decode(model, canvas, reuse, passes)
    profiler: Any = seen.profiler
    records = [event for event in profiler.kineto_results.events() if event.name() == "[memory]"]
    live = highest = 0
    for record in sorted(records, key=lambda event: event.start_ns()):
        live += record.nbytes()
        highest = max(highest, live)
    return highest


def formula(model: Any, canvas: Canvas, reuse: Reuse) -> int:
    """Bytes that the rule keeps beyond a run without reuse."""
    rows, length = canvas.shape
    store = 2 * model.config["n_layers"] * rows * length * model.config["d_model"] * model.dtype.itemsize if reuse.stores else 0
    inner = reuse.inner if isinstance(reuse, remask.Dual) else reuse
    return store + (rows * length * model.vocab_size * 4 if isinstance(inner, SureLock) and inner.every > 1 else 0)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--length", type=int, default=256)
    arguments.add_argument("--batch", type=int, default=4)
    arguments.add_argument("--passes", type=int, default=12)
    arguments.add_argument("--reuse", nargs="+", default=RULES)
    chosen = arguments.parse_args()
    dtype = torch.bfloat16 if chosen.device != "cpu" else torch.float32
    model = network(512, 8, chosen.length, chosen.device, dtype)
    prompts = torch.randint(0, 4000, (chosen.batch, chosen.length // 4), device=chosen.device)
    canvas = Canvas.from_prompts(prompts, max_new_tokens=chosen.length - chosen.length // 4, mask_id=4095)
    decode(model, canvas, remask.Fresh(), 2)
    base = peak(model, canvas, remask.Fresh(), chosen.passes)
    print(f"{chosen.device}, torch {torch.__version__}, {dtype}, {chosen.batch} rows of {chosen.length}, {chosen.passes} passes; peak of fresh {base / 2**20:.1f} MiB")
    print("| rule | formula, MiB | peak less that of fresh, MiB |\n|---|---|---|")
    for spec in chosen.reuse:
        reuse = remask.parse_reuse(spec)
        print(f"| `{spec}` | {formula(model, canvas, reuse) / 2**20:.1f} | {(peak(model, canvas, reuse, chosen.passes) - base) / 2**20:+.1f} |", flush=True)


if __name__ == "__main__":
    main()
