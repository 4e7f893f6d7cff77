"""`fiction`, `fiction_dsl` and the masked control in other sizes, half as long: does what DSL is worth depend on the size, or on the training? Name one with --variant.

    remask train fiction-sizes --variant large --data runs/fiction_data --out runs/large --device cuda
    remask train fiction-sizes --variant large_dsl --data runs/fiction_data --out runs/large_dsl --init runs/large/checkpoint --device cuda

small, base and large have 3.9M, 11.4M and 29.6M parameters: from random weights, 5,000 steps. *_dsl and *_continued start from them with --init: 1,250 steps.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from remask.cli.train import load_recipe
from remask.errors import RemaskError
from remask.training.run import Recipe

control: Any = load_recipe(Path(__file__).with_name("fiction_control.py"))
fiction, prepare = control.fiction, control.prepare
SIZES: dict[str, dict[str, int]] = {"small": {"hidden_dim": 192, "n_blocks": 5, "n_heads": 3}, "base": {}, "large": {"hidden_dim": 512, "n_blocks": 8, "n_heads": 8}}
VARIANTS = tuple(f"{size}{kind}" for size in SIZES for kind in ("", "_dsl", "_continued"))


def recipe(folder: Path, steps: int | None = None, *, variant: str = "base") -> Recipe:
    """large: 230 s on one H200, its DSL 92 s."""
    if variant not in VARIANTS:
        raise RemaskError(f"unknown variant {variant!r}; choose one of {', '.join(VARIANTS)}")
    size, _, kind = variant.partition("_")
    if kind:
        plan = control.recipe(folder, steps or 1_250, variant={"dsl": "mixed"}.get(kind, kind))
    else:
        plan = fiction.recipe(folder, steps or 5_000)
    return replace(plan, name=f"fiction_sizes {variant}", config={**plan.config, **SIZES[size]})
