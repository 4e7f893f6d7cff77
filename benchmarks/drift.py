"""How far a reuse rule's served predictions are from the network's, pass by pass, and what became of them.

    python benchmarks/drift.py sudoku --items 16
    python benchmarks/drift.py addition --parts 0 --reuse surelock surelock:recheck=8

At every pass of the rule's own run the network is also asked in full about the same canvas. A table a rule, a line a tenth of the run (`--parts 0`: a line a
pass): share of positions computed; flips, the share of masked positions whose likeliest token differs; divergence, the mean over masked positions of
KL(full || served) in nats. Last: the share of answer tokens that differ from the run without reuse.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor

import remask
from remask.canvas import Canvas
from remask.evaluation import tasks

RULES = ["prefix", "dual", "delayed", "vicinity", "surelock", "surelock:recheck=8", "surelock:every=8", "dual:inner=(surelock)"]


@torch.inference_mode()
def against_full(model: Any, canvas: Canvas, rule: str, window: str) -> tuple[list[tuple[float, float, float]], Tensor]:
    """(computed, flips, divergence) a pass, and the last tokens (B, L)."""
    found: list[tuple[float, float, float]] = []
    before = canvas
    for step in remask.denoise(model, canvas, window=remask.parse_window(window), reuse=remask.parse_reuse(rule)):
        full, _ = model.forward(before)
        logits = model.head(full).index_fill(-1, torch.tensor([model.mask_id], device=before.tokens.device), float("-inf"))
        served = step.prediction.raw.logits
        asked = before.masked & step.active.any(1, keepdim=True)
        if bool(asked.any()):
            now, then = logits[asked].log_softmax(-1), served[asked].log_softmax(-1)
            flips = (now.argmax(-1) != then.argmax(-1)).float().mean()
            kl = (now.exp() * (now - then)).nan_to_num(nan=0.0).sum(-1).clamp(min=0).mean()
            found.append((float(step.active.sum() / before.real[step.active.any(1)].sum()), float(flips), float(kl)))
        before = step.canvas
    return found, before.tokens


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("task")
    arguments.add_argument("--model", default="")
    arguments.add_argument("--items", type=int, default=16)
    arguments.add_argument("--device", default="cpu")
    arguments.add_argument("--window", default="whole")
    arguments.add_argument("--parts", type=int, default=10)
    arguments.add_argument("--reuse", nargs="+", default=RULES)
    chosen = arguments.parse_args()
    torch.set_flush_denormal(True)
    task = tasks.get(chosen.task)
    model = remask.load(chosen.model or task.model, device=chosen.device, dtype="float32")
    prompts = [model.tokenizer.encode(item.prompt) for item in task.sample(chosen.items, seed=3, split="test")]
    canvas = Canvas.from_prompts(prompts, max_new_tokens=task.max_new_tokens, mask_id=model.mask_id, device=model.device)
    _, plain = against_full(model, canvas, "fresh", chosen.window)
    for rule in chosen.reuse:
        passes, tokens = against_full(model, canvas, rule, chosen.window)
        parts = min(chosen.parts or len(passes), len(passes))
        print(f"`{rule}`, {len(passes)} passes\n\n| from pass | computed | flips | divergence |\n|---|---|---|---|")
        for number in range(parts):
            first = number * len(passes) // parts
            part = passes[first : (number + 1) * len(passes) // parts]
            computed, flips, kl = (sum(values) / len(part) for values in zip(*part, strict=True))
            print(f"| {first + 1} | {computed:.3f} | {flips:.4f} | {kl:.5f} |")
        answer = canvas.masked
        print(f"\nanswer tokens that differ from the run without reuse: {float((tokens != plain)[answer].float().mean()):.4f}\n", flush=True)


if __name__ == "__main__":
    main()
