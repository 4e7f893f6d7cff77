"""`fiction_dsl`: the `fiction` network taught to read continuous states (DSL); start it from that checkpoint.

    remask train recipes/fiction.py --data runs/fiction_data --out runs/fiction --device cuda
    remask train recipes/fiction_dsl.py --data runs/fiction_data --out runs/fiction_dsl --init runs/fiction/checkpoint --device cuda

A comparison owes the control that continues `fiction` for as many steps with masks alone: `fiction_control.py`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer

from remask.canvas import Canvas
from remask.cli.train import load_recipe
from remask.continuous import decode_sde, diffusion_bound, log_linear, log_normal, random_order_bound
from remask.models.dsl import DSL
from remask.training.localisation import Localisation
from remask.training.objectives import Localising
from remask.training.run import Recipe

fiction: Any = load_recipe(Path(__file__).with_name("fiction.py"))
prepare = fiction.prepare
CODE_DIM = 48
CONFIG: dict[str, Any] = {**fiction.CONFIG, "architectures": ["DSL"], "model_type": "dsl", "code_dim": CODE_DIM, "snr_max": 100.0}
MU, SIGMA = 2.3, 1.0
"""The median SNR of 10 is where a token of 4,096 is half known by itself."""


def evaluate(model: DSL, folder: Path, rows: int = 128) -> dict[str, Any]:
    """Nats a token on validation windows: masked bound, random-order and diffusion bound; two samples of the SDE."""
    tokens = fiction.stream(folder, "valid")[: rows * fiction.LENGTH].view(rows, -1).long().to(model.device)
    grid = log_linear(80, 0.05, 75.0)
    bounds = {"random_order": lambda part, seed: random_order_bound(model, part, seed=seed), "diffusion": lambda part, seed: diffusion_bound(model, part, grid=grid, seed=seed)}
    found: dict[str, Any] = fiction.evaluate(model, folder)
    for name, bound in bounds.items():
        nats = torch.cat([bound(part, 16 * number) for number, part in enumerate(tokens.split(16))]) / fiction.LENGTH
        found[name] = [round(float(nats.mean()), 4), round(float(nats.std() / rows**0.5), 4)]
    canvas = Canvas.from_prompts([[], []], max_new_tokens=fiction.LENGTH, mask_id=model.mask_id, device=model.device)
    decoded = decode_sde(model, canvas, grid=log_normal(32, MU, SIGMA), seed=1)
    return {**found, "sde_samples": [model.tokenizer.decode(row.tolist()) for row in decoded.tokens]}


def recipe(folder: Path, steps: int = 7_000) -> Recipe:
    """About 6 minutes on one H100 (estimated, not measured)."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def judged(model: DSL) -> dict[str, Any]:
        model.tokenizer = tokenizer
        return evaluate(model, folder)

    return replace(
        fiction.recipe(folder, steps),
        name="fiction_dsl",
        config=CONFIG,
        corrupt=Localisation(CODE_DIM, mu=MU, sigma=SIGMA),
        objective=Localising(),
        matrix_rate=0.003,
        other_rate=3e-4,
        evaluate=judged,
    )
