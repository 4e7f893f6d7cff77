"""Which signals tell that a candidate is wrong? AUC of each, on the passes of one-token-per-forward decoding.

    python benchmarks/signals.py wordmath --items 64 --device cuda

A sample is a masked position on one pass; "wrong" means that its candidate then is not the token that the row ends with. Rows that end with a
right answer only, so that the end is worth agreeing with. 0.5 is no information. `given confidence`: the AUC within
ten equal parts of the samples by confidence, averaged over those that hold both kinds; what a signal adds to confidence.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

import remask
from remask.canvas import Canvas
from remask.evaluation import tasks
from remask.text.ending import before_end

NAMES = ("confidence", "margin", "entropy", "temporal deviation", "divergence", "changes", "spatial |deviance|", "spatial drop", "masked neighbours")


def area(wrong: Tensor, signal: Tensor) -> float:
    """P(signal of a wrong one > signal of a right one), ties half."""
    order = signal.double()
    _, place, counts = order.unique(return_inverse=True, return_counts=True)
    rank = (counts.cumsum(0) - (counts - 1) / 2)[place].double()
    bad, good = int(wrong.sum()), int((~wrong).sum())
    return float((rank[wrong].sum() - bad * (bad + 1) / 2) / (bad * good))


def neighbours(value: Tensor, counted: Tensor, reach: int) -> Tensor:
    """(B, L): the mean of `value` over counted positions at most `reach` away, oneself left out; oneself where there is none."""
    kernel = torch.ones(1, 1, 2 * reach + 1, device=value.device)
    kernel[..., reach] = 0
    total = functional.conv1d((value * counted)[:, None], kernel, padding=reach)[:, 0]
    count = functional.conv1d(counted.float()[:, None], kernel, padding=reach)[:, 0]
    return torch.where(count > 0, total / count.clamp(min=1), value)


def collect(model: Any, items: list[Any], max_new_tokens: int, every: int) -> tuple[Tensor, Tensor]:
    """(samples, signals) float32 and (samples,) bool."""
    prompts = [model.tokenizer.encode(item.prompt) for item in items]
    canvas = Canvas.from_prompts(prompts, max_new_tokens=max_new_tokens, mask_id=model.mask_id, device=model.device)
    before: Tensor | None = None
    candidates, changes, pasts = canvas.tokens, torch.zeros(canvas.shape, device=model.device), list[Tensor]()
    seen: list[tuple[Tensor, Tensor, Tensor]] = []
    masked, last = canvas.masked, canvas
    for number, step in enumerate(remask.denoise(model, canvas, early_stop=True)):
        belief = step.prediction.raw
        confidence = belief.confidence
        now = belief.probabilities
        moved = torch.zeros_like(confidence) if before is None else (torch.special.xlogy(now, now) - torch.special.xlogy(now, before)).sum(-1)
        pasts = [*pasts[-3:], confidence]
        changes = 0.7 * changes + (belief.candidates != candidates)
        candidates, before = belief.candidates, belief.probabilities
        if number % every == 3:
            ones = canvas.real
            values = [-confidence, -belief.margin, belief.entropy, torch.stack(pasts).std(0, correction=0), moved, changes]
            near = neighbours(confidence, ones, 4)
            values += [(confidence - near).abs(), near - confidence, neighbours(masked.float(), ones, 2)]
            where = masked & ~step.done[:, None]
            rows = torch.arange(len(prompts), device=masked.device)[:, None].expand_as(masked)[where]
            seen.append((torch.stack(values, -1)[where].cpu(), torch.stack([rows, *where.nonzero().T[1:]], -1).cpu(), candidates[where].cpu()))
        masked, last = step.canvas.masked, step.canvas
    written = [row[len(prompt) : len(prompt) + max_new_tokens].tolist() for row, prompt in zip(last.tokens, prompts, strict=True)]
    right = torch.tensor([item.check(model.tokenizer.decode(before_end(row, model.eos_ids))) for item, row in zip(items, written, strict=True)])
    signals, places, tokens = (torch.cat(parts) for parts in zip(*seen, strict=True))
    wrong = last.tokens.cpu()[places[:, 0], places[:, 1]] != tokens
    kept = right[places[:, 0]]
    return signals[kept], wrong[kept]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("--items", type=int, default=64)
    parser.add_argument("--every", type=int, default=4)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="")
    chosen = parser.parse_args()
    task = tasks.get(chosen.task)
    model = remask.load(chosen.model or f"checkpoints/{task.model}", device=chosen.device)
    signals, wrong = collect(model, task.sample(chosen.items, seed=1, split="valid"), task.max_new_tokens, chosen.every)
    print(f"{chosen.task}: {len(wrong)} samples, {wrong.float().mean():.3f} of them wrong, {chosen.items} items")
    edges = signals[:: len(wrong) // 10**6 + 1, 0].double().quantile(torch.linspace(0, 1, 11).double())
    part = torch.bucketize(signals[:, 0].double(), edges[1:-1])
    for place, name in enumerate(NAMES):
        within = [area(wrong[part == k], signals[part == k, place]) for k in range(10) if 10 <= int(wrong[part == k].sum()) <= int((part == k).sum()) - 10]
        print(f"  {name:20} {area(wrong, signals[:, place]):.3f}   given confidence {sum(within) / max(1, len(within)):.3f} ({len(within)} parts)")


if __name__ == "__main__":
    main()
