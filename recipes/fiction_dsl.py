"""`fiction_dsl`: the `fiction` network taught to read continuous states (DSL); start it from that checkpoint.

    remask train fiction --data runs/fiction_data --out runs/fiction --device cuda
    remask train fiction-dsl --data runs/fiction_data --out runs/fiction_dsl --init runs/fiction/checkpoint --device cuda

A comparison owes the controls of equal extra training: `fiction_control.py`.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from tokenizers import Tokenizer

from remask.canvas import Canvas
from remask.cli.train import load_recipe
from remask.continuous import decode_sde, log_normal
from remask.evaluation.text.network import bounds
from remask.models.dsl import DSL
from remask.training.localisation import Localisation
from remask.training.objectives import Localising
from remask.training.run import Recipe

fiction: Any = load_recipe(Path(__file__).with_name("fiction.py"))
prepare = fiction.prepare
CODE_DIM = 48
CONFIG: dict[str, Any] = {**fiction.CONFIG, "architectures": ["DSL"], "model_type": "dsl", "code_dim": CODE_DIM, "snr_max": 100.0}
MU, SIGMA, ROAR = 2.3, 1.5, 0.5
"""The median SNR of 10 is where a token of 4,096 is half known by itself. ROAR: the share of rows at endpoints."""
MATRIX_RATE, OTHER_RATE = 0.003, 3e-4
"""Of every run that starts from `fiction`, the controls included."""


def evaluate(model: DSL, folder: Path, rows: int = 128, steps: int = 128, points: int = 80) -> dict[str, Any]:
    """Nats a token on validation windows: masked bound, random-order and diffusion bound with intervals; two samples of the SDE."""
    found: dict[str, Any] = fiction.evaluate(model, folder, rows=4 * rows, steps=steps)
    found |= bounds(model, fiction.real_rows(folder, rows), batch=16, points=points)
    canvas = Canvas.from_prompts([[], []], max_new_tokens=fiction.LENGTH, mask_id=model.mask_id, device=model.device)
    decoded = decode_sde(model, canvas, grid=log_normal(32, MU, SIGMA, last=75.0), seed=1)
    return {**found, "sde_samples": [model.tokenizer.decode(row.tolist()) for row in decoded.tokens]}


def recipe(folder: Path, steps: int = 312, *, roar: float = ROAR, per_token: bool = True, sigma: float = SIGMA) -> Recipe:
    """About 35 s on one H200 at 2.4M tokens/s, 25 s of it compiling; the peak of the rates is not reached, and more steps make a network that doubts less.

    roar: the share of rows at endpoints; the others have a log-normal SNR for every position, or one a row.
    """
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))

    def judged(model: DSL) -> dict[str, Any]:
        model.tokenizer = tokenizer
        return evaluate(model, folder)

    return replace(
        fiction.recipe(folder, steps),
        name="fiction_dsl",
        config=CONFIG,
        corrupt=Localisation(CODE_DIM, mu=MU, sigma=sigma, roar=roar, per_token=per_token),
        objective=Localising(),
        matrix_rate=MATRIX_RATE,
        other_rate=OTHER_RATE,
        evaluate=judged,
    )
