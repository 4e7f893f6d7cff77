"""SureLock's Theorem 1 (arXiv 2602.06412, section 5) on a shipped checkpoint, from runs without locks.

    python benchmarks/theorem.py sudoku --items 16

D_s is KL(posterior at pass s || at s - 1) of a written position. Reported: how often a position's D contracts (D_s < D_{s-1}) and the
quantiles of the ratio (the theorem's rho, which must hold at every pass); the quantiles of ||z_s - z_{s-1}||_2 / sqrt(D_{s-1}) (its Lip);
C_tail = sqrt(2) Lip / (1 - sqrt(rho)) from a quantile of both; rho is capped at 0.99. For the passes at which SureLock's rule would lock, how
often max |log p_T - log p_t*| exceeds C_tail sqrt(D_t*), with p_T of the last pass. Posteriors are floored at 1e-12 in the last comparison.
The bound says nothing about what a lock does to other positions (benchmarks/drift.py shows that).
"""

from __future__ import annotations

import argparse
import math
from typing import Any

import torch
from torch import Tensor

import remask
from remask.canvas import Canvas
from remask.evaluation import tasks
from remask.evaluation.theorem import tail_constant
from remask.reuse.surelock import divergence

FLOOR = -math.log(1e12)


@torch.inference_mode()
def collect(model: Any, canvas: Canvas, eps: float, gate: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Over one run: ratios D_s / D_{s-1}; ||dz|| / sqrt(D_{s-1}); deviations of the would-be locks; their D."""
    ratios, slopes, deviations, settled = list[Tensor](), list[Tensor](), list[Tensor](), list[Tensor]()
    before, last_d = None, torch.full(canvas.shape, float("nan"))
    locked = torch.zeros(canvas.shape, dtype=torch.bool)
    held: Tensor | None = None
    at = torch.zeros(canvas.shape)
    seen = canvas
    logits = torch.zeros(())
    for step in remask.denoise(model, canvas):
        logits = step.prediction.raw.logits
        written = ~seen.masked & seen.real
        if before is not None:
            d = divergence(step.prediction.raw, before, written)
            both = written & last_d.isfinite() & (last_d > 1e-12)
            ratios.append((d / last_d)[both])
            slopes.append(((logits - before).nan_to_num(0.0).norm(dim=-1) / last_d.clamp(min=1e-12).sqrt())[both])
            doubt = 1 - step.prediction.raw.confidence
            sure = written & ~locked & (doubt <= doubt.masked_fill(~(written & ~locked), float("nan")).nanquantile(gate / 100, dim=1, keepdim=True))
            now = sure & (d <= eps)
            held = logits.clone() if held is None else torch.where(now[..., None], logits, held)
            at = torch.where(now, d, at)
            locked |= now
            last_d = torch.where(written, d, float("nan"))
        before, seen = logits, step.canvas
    assert held is not None
    final, then = (x.log_softmax(-1).clamp(min=FLOOR) for x in (logits[locked], held[locked]))
    deviations.append((final - then).abs().amax(-1))
    settled.append(at[locked])
    return torch.cat(ratios), torch.cat(slopes), torch.cat(deviations), torch.cat(settled)


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("task")
    arguments.add_argument("--items", type=int, default=16)
    arguments.add_argument("--eps", type=float, default=5e-4)
    arguments.add_argument("--gate", type=float, default=20.0)
    chosen = arguments.parse_args()
    task = tasks.get(chosen.task)
    model = remask.load(task.model, dtype="float32")
    items = task.sample(chosen.items, seed=3, split="test")
    room = task.max_new_tokens
    canvases = [Canvas.from_prompts([model.tokenizer.encode(item.prompt)], max_new_tokens=room, mask_id=model.mask_id) for item in items]
    found = [collect(model, canvas, chosen.eps, chosen.gate) for canvas in canvases]
    ratios, slopes, deviations, settled = (torch.cat(part).double() for part in zip(*found, strict=True))
    print(f"{len(ratios)} pairs of passes; D contracts in {float((ratios < 1).double().mean()):.3f} of them")
    for share in (0.5, 0.9, 0.99):
        rho, lip = quantile(ratios, share), quantile(slopes, share)
        print(f"  quantile {share}: rho {rho:.3g}, Lip {lip:.3g}")
    print(f"{len(settled)} would-be locks (eps {chosen.eps}, gate {chosen.gate}); deviation: median {quantile(deviations, 0.5):.3g}, 99 % {quantile(deviations, 0.99):.3g}")
    for share in (0.5, 0.9):
        rho, lip = min(quantile(ratios, share), 0.99), quantile(slopes, share)
        constant = tail_constant(rho, lip)
        bound = constant * settled.clamp(min=0).sqrt()
        exceeded = float((deviations > bound).double().mean())
        print(f"  C_tail {constant:.3g} (rho {rho:.3g} and Lip at quantile {share}), bound at eps {constant * math.sqrt(chosen.eps):.3g}: exceeded by {exceeded:.3f} of the locks")


def quantile(values: Tensor, share: float) -> float:
    """Of any number of values."""
    return float(values.sort().values[min(len(values) - 1, int(share * len(values)))])


if __name__ == "__main__":
    main()
