"""What keeping only the likeliest tokens does to STaRR's signals=distribution.

    python benchmarks/truncation.py sudoku --items 8 --top 4 16

Two tables. One decode with all tokens kept, over which rules that keep fewer look on: the mean absolute difference of their two signals and of their threshold, and
the share of masked positions at which they would decide otherwise. And decodes of their own, in turn: accuracy, forwards, rows whose text is another one.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import remask
from remask.decoders.base import Decoder, View
from remask.evaluation import tasks
from remask.evaluation.harness import environment


class Audience(Decoder):
    """The first rule writes; the others see what it sees, and their signals are gathered."""

    def __init__(self, rules: list[Any]) -> None:
        self.rules = rules
        self.seen: list[list[Tensor]] = [[] for _ in rules]

    def init(self, canvas: remask.Canvas) -> tuple[Any, ...]:
        return tuple(rule.init(canvas) for rule in self.rules)

    def step(self, view: View, state: tuple[Any, ...]) -> tuple[remask.Edit, tuple[Any, ...]]:
        made = [rule.step(view, memory) for rule, memory in zip(self.rules, state, strict=True)]
        masked, confidence = view.eligible, view.prediction.raw.confidence
        for number, (rule, (_, after)) in enumerate(zip(self.rules, made, strict=True)):
            calm, apart = rule.temporal_signal(after), rule.spatial_signal(after, confidence, masked, view)
            tau = rule.threshold(calm, apart, after, masked)
            self.seen[number].append(torch.stack([calm, apart, tau, (confidence >= tau).float()], -1)[masked])
        return made[0][0], tuple(after for _, after in made)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("task")
    parser.add_argument("--items", type=int, default=8)
    parser.add_argument("--top", type=int, nargs="+", default=[4, 16])
    parser.add_argument("--whole", type=int, default=0, help="what stands for all tokens where they are too many: every pair of them is compared")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--model", default="")
    chosen = parser.parse_args()
    torch.set_flush_denormal(True)  # as the command line does
    task = tasks.get(chosen.task)
    model = remask.load(chosen.model or task.model, device=chosen.device, dtype="float32")
    items = task.sample(chosen.items, seed=0, split="test")
    whole = remask.STaRR(signals="distribution", top=chosen.whole or model.vocab_size)
    rules = [whole, *(replace(whole, top=min(top, model.vocab_size)) for top in chosen.top)]
    audience = Audience(rules)
    prompts = [item.prompt for item in items]
    print(f"{chosen.task}, {chosen.items} test items, vocabulary {model.vocab_size}, {environment(model)}", flush=True)
    remask.generate(model, prompts, max_new_tokens=task.max_new_tokens, decoder=audience)
    everything = torch.cat(audience.seen[0])
    means = f"mean temporal signal {everything[:, 0].mean():.4f}, spatial {everything[:, 1].mean():.4f}, threshold {everything[:, 2].mean():.4f}"
    print(f"{len(everything)} masked positions; {means}", flush=True)
    reference: list[remask.Completion] = []
    for rule, seen in zip(rules, audience.seen, strict=True):
        off = (torch.cat(seen) - everything).abs().mean(0).tolist()
        rows = remask.generate(model, prompts, max_new_tokens=task.max_new_tokens, decoder=rule)
        reference = reference or rows  # the first rule keeps the whole vocabulary
        right = sum(item.check(row.text) for item, row in zip(items, rows, strict=True)) / len(items)
        other = sum(one.text != two.text for one, two in zip(rows, reference, strict=True))
        forwards = sum(row.stats.forwards for row in rows) / len(rows)
        shown = f"temporal {off[0]:.5f}, spatial {off[1]:.5f}, threshold {off[2]:.5f}, decides otherwise {off[3]:.5f}"
        print(f"  top {rule.top:6}: {shown}; accuracy {right:.3f}, forwards {forwards:.2f}, other texts {other}", flush=True)


if __name__ == "__main__":
    main()
