"""`remask bench`: comparisons in which both sides run in turn, in one process."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from remask.cli.opening import Way, network_settings, open_model, parts
from remask.cli.options import Batch, Captured, DecoderSpec, Device, Dtype, Fused, Items, ReuseSpec, Seed, Split, Summaries, TaskModel, TaskSpec, WindowSpec
from remask.cli.progress import counting

if TYPE_CHECKING:
    from remask.evaluation.frontier_points import Point

app = typer.Typer(no_args_is_help=True, help="Compare decoders on one task.")
REFERENCE = "low_confidence"


@app.callback()
def group() -> None:
    """Compare decoders on one task."""


Summary = dict[str, dict[str, Any]]
"""Contender -> its figures."""


def last(summaries: Iterable[Summary], out: Path | None, told: Mapping[str, Any], name: str) -> Summary:
    """Of the summaries that come after every batch, each of which is written over the one before, behind what is told of the bench: an error leaves the last before it."""
    from remask.files import write_json

    found: Summary = {}
    for found in summaries:
        if out is not None:
            write_json(out, {**told, name: found})
    return found


@app.command("decoders")
def decoders(
    task: TaskSpec,
    decoder: Annotated[list[str] | None, typer.Option(help="A spec string; may be given many times.")] = None,
    model: TaskModel = "",
    n: Items = 32,
    split: Split = "test",
    device: Device = "cpu",
    dtype: Dtype = "",
    fused: Fused = False,
    captured: Captured = False,
    window: WindowSpec = "whole",
    reuse: ReuseSpec = "fresh",
    batch: Batch = 16,
    seed: Seed = 0,
    out: Summaries = None,
) -> None:
    """Decoders side by side: each batch is decoded by one after the other, so that none has the quieter machine.

    \b
    Examples; one token per forward (low_confidence) is always among them:
      remask bench decoders sudoku -n 64
      remask bench decoders wordmath --decoder starr --decoder dus --out bench.json
    """
    from rich.console import Console

    from remask.cli import tables
    from remask.evaluation import tasks
    from remask.evaluation.harness import compare

    specs = list(dict.fromkeys([REFERENCE, *(decoder or ["threshold:tau=0.9", "factor:f=1"])]))
    contenders = {spec: parts(spec, window, reuse) for spec in specs}
    chosen = tasks.get(task)
    items = chosen.sample(n, seed=seed, split=split)
    way = Way(fused, captured)
    network = open_model(model or chosen.model, device, dtype, way=way, sessions=len(specs))
    told = {"task": task, **way.told(model or chosen.model), "split": split, "window": window, "reuse": reuse, "batch": batch}
    with counting(task, n * len(specs)) as report:
        found = last(compare(network, items, contenders, max_new_tokens=chosen.max_new_tokens, batch=batch, seed=seed, report=report), out, told, "decoders")
    Console().print(tables.decoders(found, REFERENCE))


@app.command("frontier")
def frontier(
    task: TaskSpec,
    out: Annotated[Path, typer.Option(help="A folder for every result; an unfinished one is continued.")],
    decoders: Annotated[
        str, typer.Option(help="Names with a space between them; a spec string with parameters stands for itself.")
    ] = "threshold factor entropy_bound risk starr dus",
    model: TaskModel = "",
    valid: Annotated[int, typer.Option(help="Items that the settings are chosen on.")] = 64,
    test: Annotated[int, typer.Option(help="Items that they are reported on.")] = 256,
    device: Device = "cpu",
    dtype: Dtype = "",
    window: WindowSpec = "whole",
    reuse: ReuseSpec = "fresh",
    batch: Batch = 16,
    seed: Seed = 0,
    sweep: Annotated[bool, typer.Option("--sweep/--no-sweep", help="Whether a bare name stands for its sweep of settings, or for itself.")] = True,
    decode: Annotated[bool, typer.Option("--decode/--no-decode", help="Of a run that was cut off: report the settings that it finished, and decode none.")] = True,
) -> None:
    """Accuracy against forwards: sweep every decoder on validation items, report what is best at some budget on test items.

    The first test item is traced under every setting reported: `remask trace OUT/examples/*.jsonl --html page.html` compares them.
    """
    from rich.progress import Progress

    import remask
    from remask.evaluation import frontier as judge
    from remask.evaluation import tasks
    from remask.evaluation.sweeps import settings
    from remask.spec import content_settings

    names = decoders.split()
    for spec in (spec for name in names for spec in (settings(name) if sweep else (name,))):
        parts(spec, window, reuse)
    read = content_settings({"window": remask.parse_window(window), "reuse": remask.parse_reuse(reuse)})
    chosen = tasks.get(task)
    swept, reported = chosen.sample(valid, seed=seed, split="valid"), chosen.sample(test, seed=seed, split="test")
    network, noted = open_model(model or chosen.model, device, dtype), network_settings(model or chosen.model, device, dtype)
    with Progress(transient=True) as progress:
        bar = progress.add_task(task, total=None)
        points = judge.frontier(
            network, names, swept, reported, out, make=lambda spec: parts(spec, window, reuse), max_new_tokens=chosen.max_new_tokens, batch=batch, seed=seed,
            sweep=sweep, decode=decode, about={"task": task, "model": noted["model"], "weights": noted["weights"], "window": window, "reuse": reuse, **read},
            report=lambda what, done, total: progress.update(bar, description=what, completed=done, total=total),
        )  # fmt: skip
    show(points, out, task=task, valid=valid, test=test, window=window)


def show(points: list[Point], out: Path, *, task: str, valid: int, test: int, window: str) -> None:
    """A frontier as page and picture in its folder, and as tables in the terminal."""
    from rich.console import Console

    from remask.cli import tables
    from remask.errors import RemaskError
    from remask.evaluation.frontier_page import page
    from remask.evaluation.frontier_plot import picture
    from remask.evaluation.frontier_points import LOSS

    title = f"{task}: accuracy against forwards, {test} test items"
    (out / "frontier.html").write_text(page(points, title), encoding="utf-8")
    try:
        picture(points, title, out / "frontier.png")
    except RemaskError as error:
        typer.echo(f"note: {error}", err=True)
    console = Console()
    console.print(tables.frontier(points, f"{task}, {test} test items, window {window}"))
    console.print(tables.losses(points, f"{task}: fewest forwards within {100 * LOSS:g} point of one token per forward, as chosen on {valid} validation items"))


@app.command("reuse")
def reuse(
    task: TaskSpec,
    rule: Annotated[list[str] | None, typer.Option("--reuse", help="A spec string; may be given many times.")] = None,
    decoder: DecoderSpec = "low_confidence",
    model: TaskModel = "",
    n: Items = 32,
    split: Split = "test",
    device: Device = "cpu",
    dtype: Dtype = "",
    fused: Fused = False,
    captured: Captured = False,
    window: WindowSpec = "whole",
    batch: Batch = 16,
    seed: Seed = 0,
    out: Summaries = None,
) -> None:
    """Reuse rules against the same decoder without reuse: accuracy, flipped tokens, FLOPs of the layers and seconds, in one run."""
    from rich.console import Console

    from remask.cli import tables
    from remask.evaluation import reuse as judge
    from remask.evaluation import tasks

    specs = list(dict.fromkeys([judge.REFERENCE, *(rule or ["surelock", "prefix", "dual", "dual:inner=(surelock)"])]))
    rules = {spec: parts(decoder, window, spec) for spec in specs}
    chosen = tasks.get(task)
    items = chosen.sample(n, seed=seed, split=split)
    way = Way(fused, captured)
    network = open_model(model or chosen.model, device, dtype, way=way, sessions=len(specs))
    told = {"task": task, **way.told(model or chosen.model), "split": split, "decoder": decoder, "window": window, "batch": batch}
    with counting(task, n * len(specs)) as report:
        found = last(judge.compare(network, items, rules, max_new_tokens=chosen.max_new_tokens, batch=batch, seed=seed, report=report), out, told, "reuse")
    Console().print(tables.reuse(found, f"{task}, {n} {split} items, {decoder}, window {window}"))
