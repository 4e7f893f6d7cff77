"""`remask train`."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Annotated, Any

import typer


def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe file, e.g. recipes/sudoku.py.")],
    data: Annotated[Path, typer.Option(help="Where the recipe's data lie, or are put.")] = Path("runs/data"),
    out: Annotated[Path, typer.Option(help="The run's folder; an unfinished run there is continued.")] = Path("runs/out"),
    prepare: Annotated[bool, typer.Option(help="Make the data first.")] = False,
    init: Annotated[Path | None, typer.Option(help="Start from the weights of this checkpoint, re-warmed.")] = None,
    minutes: Annotated[float | None, typer.Option(help="Save and stop after this long.")] = None,
    processes: Annotated[int, typer.Option(help="For --prepare.")] = 2,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    compiled: Annotated[bool, typer.Option("--compile/--no-compile", help="Compile the layers; on one GPU a step is then one recorded graph.")] = True,
) -> None:
    """Run or continue a recipe; metrics go to OUT/metrics.jsonl, the checkpoint to OUT/checkpoint.

    \b
    Examples; a run may be killed at any moment, and the same command continues it:
      remask train recipes/sudoku.py --prepare --device cuda --out runs/sudoku
      remask train recipes/sudoku.py --device cuda --out runs/sudoku --minutes 25
      remask train recipes/sudoku.py --init checkpoints/sudoku --out runs/again
    \b
    On several GPUs:
      torchrun --nproc-per-node 4 -m remask train recipes/sudoku.py --device cuda
    """
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from remask.training.run import train

    module = load_recipe(recipe)
    if prepare:
        module.prepare(data, processes)
    plan = module.recipe(data)
    first = os.environ.get("RANK", "0") == "0"
    with Progress(TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), disable=not first) as progress:
        bar = progress.add_task(plan.name, total=plan.steps)

        def report(line: dict[str, Any]) -> None:
            progress.console.print(line)
            if "loss" in line:
                shown = f"{plan.name}: loss {line['loss']:.4f}, {line['tokens_per_second']:,} tokens/s"
                progress.update(bar, completed=line["step"], description=shown)

        checkpoint = train(plan, out, init=init, device=device, minutes=minutes, compiled=compiled, report=report)
    if first:
        typer.echo(checkpoint)


def load_recipe(path: Path) -> Any:
    """The module of a recipe file."""
    from remask.errors import RemaskError

    spec = importlib.util.spec_from_file_location(path.stem, path)
    if not path.is_file() or spec is None or spec.loader is None:
        raise RemaskError(f"no recipe {str(path)!r}; name a Python file with `prepare` and `recipe`")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    if not hasattr(module, "recipe") or not hasattr(module, "prepare"):
        raise RemaskError(f"{path} has no `prepare` and `recipe`; a recipe file needs both")
    return module
