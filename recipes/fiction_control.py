"""`fiction_control`: `fiction` continued for the steps and at the rates of `fiction_dsl`, with masks alone; the control of that run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from remask.cli.train import load_recipe
from remask.training.run import Recipe

fiction: Any = load_recipe(Path(__file__).with_name("fiction.py"))
prepare = fiction.prepare


def recipe(folder: Path, steps: int = 7_000) -> Recipe:
    """Start it with --init from the checkpoint of `fiction`."""
    return replace(fiction.recipe(folder, steps), name="fiction_control", matrix_rate=0.003, other_rate=3e-4)
