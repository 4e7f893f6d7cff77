"""`fiction_control`: what `fiction_dsl` is compared with, each as long and at the same rates, from the same checkpoint. Name one with --variant.

- continued: masks alone. Is it the longer training?
- mixed: DSL; this is `fiction_dsl` itself, half of the rows at endpoints and an SNR for every position of the others, which hold known and unknown tokens side by side.
- by_row: a quarter of the rows at endpoints and one SNR for a whole row of the others. Is it the layout?
- log_normal: by rows and without endpoints. Does a discrete decoder need them?
- roar: nothing but endpoints. Is it the converter?
- substitution: an MDLM shown wrong tokens too. Is it only that visible tokens may be doubted?
- scratch: by rows, from random weights, at the rates of `fiction`: without --init, and with as many steps as `fiction` and a fine-tune together. Is it the fine-tune?
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from remask.cli.train import load_recipe
from remask.errors import RemaskError
from remask.training.corruption import substitute
from remask.training.data import Batch
from remask.training.objectives import Restoring
from remask.training.run import Recipe

dsl: Any = load_recipe(Path(__file__).with_name("fiction_dsl.py"))
fiction: Any = dsl.fiction
prepare = fiction.prepare
VARIANTS = ("continued", "mixed", "by_row", "log_normal", "roar", "scratch", "substitution")
WRONG = 0.5
"""The largest share of the visible tokens that `substitution` replaces."""


def mask_and_substitute(batch: Batch, generator: torch.Generator) -> tuple[Tensor]:
    """(B, L) rows as shown: uniform masks, and of what is left a share that is wrong, uniform from 0 to WRONG."""
    masked, _ = fiction.corrupt(batch, generator)
    share = WRONG * torch.rand(len(batch.tokens), 1, device=batch.tokens.device, generator=generator)
    wrong = batch.eligible & (torch.rand(batch.tokens.shape, device=batch.tokens.device, generator=generator) < share)
    return (substitute(batch.tokens, wrong, fiction.EOS, generator).masked_fill(masked, fiction.MASK),)


def recipe(folder: Path, steps: int = 2_500, *, variant: str = "continued") -> Recipe:
    """Start it with --init from the checkpoint of `fiction`."""
    masks = replace(fiction.recipe(folder, steps), matrix_rate=dsl.MATRIX_RATE, other_rate=dsl.OTHER_RATE)
    by_row = partial(dsl.recipe, folder, steps, per_token=False, sigma=1.0)
    plans = {
        "continued": lambda: masks,
        "mixed": lambda: dsl.recipe(folder, steps),
        "by_row": lambda: by_row(roar=0.25),
        "log_normal": lambda: by_row(roar=0.0),
        "roar": lambda: dsl.recipe(folder, steps, roar=1.0),
        "scratch": lambda: replace(by_row(roar=0.25), matrix_rate=fiction.MATRIX_RATE, other_rate=fiction.OTHER_RATE),
        "substitution": lambda: replace(masks, corrupt=mask_and_substitute, objective=Restoring()),
    }
    if variant not in plans:
        raise RemaskError(f"unknown variant {variant!r}; choose one of {', '.join(VARIANTS)}")
    return replace(plans[variant](), name=f"fiction_control {variant}")
