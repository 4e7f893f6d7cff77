"""When positions settle in a run without locks: what SureLock's test sees at a pass, and how far the position still goes.

    python benchmarks/settling.py wordmath:operations=2+2,max_new_tokens=64 --items 4

One token per forward, window whole. At some passes, over the prompt and over the written answer: the median divergence from the pass before (what the rule
tests) and the share at most eps; the divergence of the last pass from this one and the share at most eps (what a lock costs in the end); and the median
relative distance of keys and values, all layers, from those of the last pass (what the others would read).
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor

import remask
from remask.canvas import Canvas
from remask.denoise import Plan, start, step
from remask.evaluation import tasks
from remask.prediction import Belief
from remask.reuse.surelock import divergence


@torch.inference_mode()
def observed(model: Any, canvas: Canvas, every: int) -> list[tuple[int, Tensor, Tensor, Tensor, Tensor]]:
    """One row; a pass each: its number, the written positions (L,), the divergence from the pass before (L,), logits (L, V), keys and values (L, W)."""
    plan = Plan(reuse=remask.Delayed(refresh=1))  # computes everything, and its store can be read
    state, found = start(canvas, plan, torch.zeros(1, dtype=torch.int64)), list[tuple[int, Tensor, Tensor, Tensor, Tensor]]()
    number, before = 0, None
    while not bool(state.done.all()):
        written = ~state.canvas.masked
        state, seen = step(model, state, plan)
        number += 1
        logits = seen.prediction.raw.logits
        if before is not None and (number % every == 2 or bool(state.done.all())):
            store = state.kept.store
            held = torch.cat([part[0].transpose(0, 1).flatten(1) for part in (*store.keys, *store.values)], -1)
            found.append((number, written[0], divergence(seen.prediction.raw, before, written)[0], logits[0], held))
        before = logits
    return found


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("task")
    arguments.add_argument("--items", type=int, default=4)
    arguments.add_argument("--every", type=int, default=8)
    arguments.add_argument("--eps", type=float, default=5e-4)
    chosen = arguments.parse_args()
    torch.set_flush_denormal(True)
    task = tasks.get(chosen.task)
    model = remask.load(task.model, dtype="float32")
    rows: dict[tuple[int, str], list[Tensor]] = {}
    for item in task.sample(chosen.items, seed=0, split="test"):
        canvas = Canvas.from_prompts([model.tokenizer.encode(item.prompt)], max_new_tokens=task.max_new_tokens, mask_id=model.mask_id)
        passes = observed(model, canvas, chosen.every)
        _, _, _, last, end = passes[-1]
        for number, written, moved, logits, held in passes[:-1]:
            left = divergence(Belief(last[None], last[None].argmax(-1)), logits[None], written[None])[0]
            apart = (end - held).norm(dim=-1) / end.norm(dim=-1)
            for name, where in (("prompt", canvas.given[0]), ("answer", written & ~canvas.given[0])):
                rows.setdefault((number, name), []).append(torch.stack([moved[where], left[where], apart[where]]))
    print("| pass | positions | from the pass before | settled | to the last pass | settled | keys and values to the last pass |\n|---|---|---|---|---|---|---|")
    for (number, name), parts in sorted(rows.items()):
        moved, left, apart = torch.cat(parts, 1)
        if len(moved):
            shares = [float((part <= chosen.eps).float().mean()) for part in (moved, left)]
            print(f"| {number} | {name} | {float(moved.median()):.1e} | {shares[0]:.2f} | {float(left.median()):.1e} | {shares[1]:.2f} | {float(apart.median()):.3f} |")


if __name__ == "__main__":
    main()
