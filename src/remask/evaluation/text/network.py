"""What real text says of a network itself, whatever sampler reads it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from remask.continuous import cross_entropies, diffusion_bound, log_linear, random_order_bound
from remask.evaluation.intervals import mean_interval
from remask.evaluation.text.revision import masked_calibration, revise

SNRS = (0.25, 0.5, 1.0, 2.0, 4.0, 6.0, 8.0, 12.0, 16.0, 24.0, 32.0, 48.0, 64.0, 96.0)
"""Where the cross-entropy of a network of states is read."""
SHARES = (0.05, 0.1, 0.2, 0.3, 0.5)
"""Shares of wrong tokens that a text is revised at."""


def of_network(model: Any, tokens: Tensor, *, seed: int = 0, batch: int = 32) -> dict[str, Any]:
    """Over rows (B, L) of real text: fix and keep rates with intervals and calibration error at each share of wrong tokens, calibration error at masks."""
    found: dict[str, Any] = {"rows": len(tokens), "calibration_masked": masked_calibration(model, tokens, seed=seed, batch=batch), "revision": []}
    for share in SHARES:
        made = revise(model, tokens, share, seed=seed, batch=batch)
        rates = {"fixed": mean_interval(made.fixed.tolist()), "kept": mean_interval(made.kept.tolist())}
        found["revision"].append({"share": share, **rates, "calibration": made.calibration})
    if hasattr(model, "read"):
        found |= bounds(model, tokens, seed=seed, batch=batch)
    return found


def bounds(model: Any, tokens: Tensor, *, seed: int = 0, batch: int = 32, points: int = 80) -> dict[str, Any]:
    """Nats a token of a network of states: the random-order and the diffusion bound with intervals over rows, and the cross-entropy over SNR."""
    grid = log_linear(points, 0.05, 0.75 * model.snr_max)
    parts = [(part.to(model.device), seed + batch * number) for number, part in enumerate(tokens.split(batch))]
    made = {
        "random_order_bound": [random_order_bound(model, part, seed=first) for part, first in parts],
        "diffusion_bound": [diffusion_bound(model, part, grid=grid, seed=first) for part, first in parts],
    }
    found: dict[str, Any] = {name: mean_interval((torch.cat(nats) / tokens.shape[1]).tolist()) for name, nats in made.items()}
    curve = torch.cat([cross_entropies(model, part, snrs=SNRS, seed=first) for part, first in parts]).mean(0)
    return {**found, "cross_entropy_over_snr": dict(zip(map(str, SNRS), curve.tolist(), strict=True))}
