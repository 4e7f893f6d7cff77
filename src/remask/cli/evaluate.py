"""`remask eval TASK`, and `remask eval text` for text without a right answer."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from remask.cli import text
from remask.cli.opening import LENGTHS, Way, check_traced, network_settings, open_model, open_trace, parts
from remask.cli.options import TASKS, Batch, Captured, DecoderSpec, Device, Dtype, Fused, Items, ReuseSpec, Seed, Split, TaskModel, Trace, WindowSpec
from remask.cli.progress import counting

if TYPE_CHECKING:
    from remask.denoise import Step
    from remask.trace.file import TraceFile


OURS = {"n": "-n", "split": "--split", "stratum": "--stratum", "out": "--out"}
HARNESS = {"limit": "--limit", "task_files": "--tasks", "samples": "--samples"}
"""Options that only tasks of ours have, and only those of the harness."""


class TaskOrText(TyperGroup):
    """`eval wordmath` is short for `eval task wordmath`."""

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        return super().resolve_command(ctx, args if args[0] in self.commands else ["task", *args])


app = typer.Typer(
    cls=TaskOrText,
    no_args_is_help=True,
    context_settings={"ignore_unknown_options": True},
    help="Measure a decoder: `eval TASK` on problems with answers, `eval text` on open text.",
)
app.command("text")(text.run)


@app.command("task")
def run(
    context: typer.Context,
    task: Annotated[str, typer.Argument(help=TASKS + "; with --harness one of the harness's.")],
    model: TaskModel = "",
    n: Items = 100,
    split: Split = "test",
    stratum: Annotated[str, typer.Option(help="Of sudoku: singles, harder or sparse; of addition: short, medium or long.")] = "",
    device: Device = "cpu",
    dtype: Dtype = "",
    fused: Fused = False,
    captured: Captured = False,
    decoder: DecoderSpec = "low_confidence",
    window: WindowSpec = "whole",
    reuse: ReuseSpec = "fresh",
    batch: Batch = 16,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="JSON lines, one per item; an unfinished file of the same settings is continued.")] = None,
    trace: Trace = None,
    harness: Annotated[bool, typer.Option("--harness", help="The task is one of lm-evaluation-harness (extra `harness`).")] = False,
    limit: Annotated[int | None, typer.Option(help="With --harness: only so many items.")] = None,
    task_files: Annotated[Path | None, typer.Option("--tasks", help="With --harness: the folder of the task's file, if it is one of your own.")] = None,
    samples: Annotated[int, typer.Option(help="With --harness: of the Monte-Carlo likelihood bound.")] = 128,
) -> None:
    """Accuracy of a decoder on a task, with its interval and its costs, as JSON.

    \b
    Examples:
      remask eval sudoku -n 100 --decoder factor:f=1
      remask eval wordmath -n 500 --batch 50 --out runs/wordmath.jsonl
      remask eval --harness gsm8k --limit 100
      remask eval sudoku --stratum harder --split valid --window blocks:27
    """
    check_options(context, harness=harness)
    way = Way(fused, captured)
    check_traced(way, trace)
    made = parts(decoder, window, reuse)
    if harness:
        network = open_model(model or "demo", device, dtype, way=way, lengths=LENGTHS)
        harnessed(task, way.told(model or "demo"), network, made, batch=batch, samples=samples, seed=seed, limit=limit, folder=task_files, trace=trace)
        return
    from remask.evaluation import tasks
    from remask.evaluation.harness import evaluate, summarise
    from remask.spec import content_settings

    chosen = tasks.get(task)
    items = chosen.sample(n, seed=seed, split=split, **({"stratum": stratum} if stratum else {}))
    network = open_model(model or chosen.model, device, dtype, way=way, lengths=LENGTHS)
    told = {"task": task, **way.told(model or chosen.model), "decoder": decoder, "window": window, "reuse": reuse}
    settings = {**told, **content_settings(made), **network_settings(model or chosen.model, device, dtype, way), "seed": seed}
    with counting(task, len(items)) as report, open_trace(trace, network.tokenizer, resume=out is not None and out.exists()) as file:
        asked: dict[str, Any] = {"max_new_tokens": chosen.max_new_tokens, "out": out, "settings": settings, "observed": file is not None}
        records = evaluate(network, items, batch=batch, seed=seed, report=report, through=partial(recorded, trace=file, seed=seed, told=told), **asked, **made)
    typer.echo(json.dumps({**told, "split": split, "batch": batch, **summarise(records, network)}, indent=2))


def check_options(context: typer.Context, *, harness: bool) -> None:
    """Raise if something was asked for that tasks of this kind do not have: it would change nothing, and not be missed."""
    from remask.errors import RemaskError

    sources = {option: context.get_parameter_source(name) for name, option in (OURS if harness else HARNESS).items()}
    others = [option for option, source in sources.items() if source is not None and source.name != "DEFAULT"]
    if others and harness:
        raise RemaskError(f"{', '.join(others)}: not with --harness, whose tasks have their own items; --limit takes fewer of them, and the scores go to standard output")
    if others:
        raise RemaskError(f"{', '.join(others)}: only with --harness; for a task of ours -n says how many items")


def recorded(numbers: Sequence[int], steps: Iterator[Step], *, trace: TraceFile | None, seed: int, told: dict[str, str]) -> Iterator[Step]:
    """The steps of the items of these numbers, written into the trace, if there is one, as they come."""
    from remask.trace.record import record

    return steps if trace is None else record(steps, trace, runs=[str(number) for number in numbers], seeds=[seed + number for number in numbers], settings=told, drafts=False)


def harnessed(
    task: str, told: dict[str, str], network: Any, made: dict[str, Any], *, batch: int, samples: int, seed: int, limit: int | None, folder: Path | None, trace: Path | None
) -> None:
    """Print what lm-evaluation-harness says."""
    from remask.errors import RemaskError
    from remask.evaluation.harness import environment

    try:
        from remask.evaluation.lm_eval_model import Settings, run_task
    except ModuleNotFoundError as error:
        raise RemaskError(f"{error.name} is not installed; pip install 'remask[harness]'") from None
    try:
        with open_trace(trace, network.tokenizer) as file:
            found = run_task(network, task, settings=Settings(made, batch, samples, seed, told), limit=limit, folder=folder, trace=file)
    except ConnectionError as error:
        if isinstance(error, BrokenPipeError):  # nobody reads our output any more
            raise
        raise RemaskError(f"the data of task {task!r} are not on this machine ({error}); run it once with a network, or name a task of your own with --tasks") from None
    about = {**told, "parts": {name: str(part) for name, part in made.items()}, "environment": environment(network)}
    typer.echo(json.dumps({**found, **about}, indent=2, default=str))
