"""`remask train`."""

from __future__ import annotations

import importlib.util
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from remask.cli.progress import counted


def run(
    recipe: Annotated[Path, typer.Argument(help="A recipe file, e.g. recipes/sudoku.py, or the name of one of a checkout: fiction-dsl.")],
    data: Annotated[Path, typer.Option(help="Where the recipe's data lie, or are put.")] = Path("runs/data"),
    out: Annotated[Path, typer.Option(help="The run's folder; an unfinished run there is continued.")] = Path("runs/out"),
    prepare: Annotated[bool, typer.Option(help="Make the data first.")] = False,
    prepare_only: Annotated[bool, typer.Option("--prepare-only", help="Make the data and stop, on a machine that need have no GPU.")] = False,
    variant: Annotated[str, typer.Option(help="Of a recipe that has several, e.g. fiction-control.")] = "",
    steps: Annotated[int | None, typer.Option(help="Instead of the recipe's own: its rates stretch with it.")] = None,
    seed: Annotated[int, typer.Option(help="Other batches and noise, and other first weights of all that --init does not bring.")] = 0,
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
    from remask.errors import RemaskError

    if minutes is not None and not minutes >= 0:
        raise RemaskError(f"minutes is {minutes}; use 0 or more, or leave it out")
    module = load_recipe(locate_recipe(recipe))
    if prepare or prepare_only:
        module.prepare(data, processes)
    if prepare_only:
        typer.echo(data)
        return
    plan = choose(module, data, variant, steps, seed)
    first = os.environ.get("RANK", "0") == "0"
    checkpoint = shown(plan, out, hidden=not first, init=init, device=device, minutes=minutes, compiled=compiled)
    if first:
        typer.echo(checkpoint)


def shown(plan: Any, out: Path, *, hidden: bool, **how: Any) -> Path:
    """The checkpoint of a run, whose metrics are printed as they come, unless hidden; how: as of remask.training.run.train."""
    from remask.training.run import train

    with counted(shown=not hidden) as progress:
        bar = progress.add_task(plan.name, total=plan.steps)

        def report(line: dict[str, Any]) -> None:
            progress.console.print(line)
            if "loss" in line:
                told = f"{plan.name}: loss {line['loss']:.4f}, {line['tokens_per_second']:,} tokens/s"
                progress.update(bar, completed=line["step"], description=told)

        return train(plan, out, report=report, **how)


def locate_recipe(path: Path) -> Path:
    """The path itself if it is there or says `.py`; a bare name is a file of the checkout's recipes/."""
    if path.exists() or path.suffix:
        return path
    return Path(__file__).resolve().parents[3] / "recipes" / f"{path.name.replace('-', '_')}.py"


def choose(module: Any, data: Path, variant: str, steps: int | None, seed: int = 0) -> Any:
    """The recipe of a module, in one of its variants, of another length and of another seed if asked for."""
    from remask.errors import RemaskError

    if variant and not hasattr(module, "VARIANTS"):
        raise RemaskError(f"{module.__name__} has no variants, {variant!r} was asked for; leave --variant out")
    if steps is not None and steps < 1:
        raise RemaskError(f"steps is {steps}; use 1 or more")
    if not 0 <= seed < 2**31:
        raise RemaskError(f"seed is {seed}; use 0 to {2**31 - 1}")
    plan = module.recipe(data, variant=variant) if variant else module.recipe(data)
    return replace(plan, seed=seed, **({} if steps is None else {"steps": steps}))


def load_recipe(path: Path) -> Any:
    """The module of a recipe file."""
    from remask.errors import RemaskError

    spec = importlib.util.spec_from_file_location(f"recipe {path.stem}", path)  # a name that no module has
    if not path.is_file() or spec is None or spec.loader is None:
        raise RemaskError(f"no recipe {str(path)!r}; name a Python file with `prepare` and `recipe`")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # where dataclasses look for the names in their annotations
    spec.loader.exec_module(module)
    if not hasattr(module, "recipe") or not hasattr(module, "prepare"):
        raise RemaskError(f"{path} has no `prepare` and `recipe`; a recipe file needs both")
    return module
