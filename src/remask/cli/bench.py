"""`remask bench`: comparisons in which both sides run in turn, in one process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from remask.cli.options import DecoderSpec, Device, Dtype, ReuseSpec, Seed, TaskSpec, WindowSpec, open_model, parts

app = typer.Typer(no_args_is_help=True, help="Compare decoders on one task.")
REFERENCE = "low_confidence"


@app.callback()
def group() -> None:
    """Compare decoders on one task."""


@app.command("decoders")
def decoders(
    task: TaskSpec,
    decoder: Annotated[list[str] | None, typer.Option(help="A spec string; may be given many times.")] = None,
    model: Annotated[str, typer.Option(help="Empty: the shipped checkpoint for the task.")] = "",
    n: Annotated[int, typer.Option("-n", help="Items.")] = 32,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    device: Device = "cpu",
    dtype: Dtype = "",
    window: WindowSpec = "whole",
    reuse: ReuseSpec = "fresh",
    batch: Annotated[int, typer.Option(help="Rows decoded together.")] = 16,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="The summaries as JSON.")] = None,
) -> None:
    """Decoders side by side: each batch is decoded by one after the other, so that none has the quieter machine.

    \b
    Examples; one token per forward (low_confidence) is always among them:
      remask bench decoders sudoku -n 64
      remask bench decoders wordmath --decoder starr --decoder dus --out bench.json
    """
    from rich.console import Console
    from rich.progress import Progress

    from remask.evaluation import tasks
    from remask.evaluation.harness import compare

    specs = list(dict.fromkeys([REFERENCE, *(decoder or ["threshold:tau=0.9", "factor:f=1"])]))
    contenders = {spec: parts(spec, window, reuse) for spec in specs}
    chosen = tasks.get(task)
    items = chosen.sample(n, seed=seed, split=split)
    network = open_model(model or chosen.model, device, dtype)
    with Progress(transient=True) as progress:
        bar = progress.add_task(task, total=n * len(specs))
        found = compare(network, items, contenders, max_new_tokens=chosen.max_new_tokens, batch=batch, seed=seed, report=lambda done: progress.update(bar, completed=done))
    if out is not None:
        out.write_text(json.dumps({"task": task, "split": split, "window": window, "reuse": reuse, "batch": batch, "decoders": found}, indent=2) + "\n", encoding="utf-8")
    Console().print(table(found))


@app.command("frontier")
def frontier(
    task: TaskSpec,
    out: Annotated[Path, typer.Option(help="A folder for every result; an unfinished one is continued.")],
    decoders: Annotated[str, typer.Option(help="Names with a space between them; a spec string with parameters stands for itself.")] = "threshold factor entropy_bound starr dus",
    model: Annotated[str, typer.Option(help="Empty: the shipped checkpoint for the task.")] = "",
    valid: Annotated[int, typer.Option(help="Items that the settings are chosen on.")] = 64,
    test: Annotated[int, typer.Option(help="Items that they are reported on.")] = 256,
    device: Device = "cpu",
    dtype: Dtype = "",
    window: WindowSpec = "whole",
    reuse: ReuseSpec = "fresh",
    batch: Annotated[int, typer.Option(help="Rows decoded together.")] = 16,
    seed: Seed = 0,
    sweep: Annotated[bool, typer.Option("--sweep/--no-sweep", help="Whether a bare name stands for its sweep of settings, or for itself.")] = True,
) -> None:
    """Accuracy against forwards: sweep every decoder on validation items, report what is best at some budget on test items.

    The first test item is traced under every setting reported: `remask trace OUT/examples/*.jsonl --html page.html` compares them.
    """
    from rich.console import Console
    from rich.progress import Progress

    from remask.errors import RemaskError
    from remask.evaluation import frontier as judge
    from remask.evaluation import tasks
    from remask.evaluation.frontier_page import page
    from remask.evaluation.frontier_plot import picture

    names = decoders.split()
    for spec in (spec for name in names for spec in (judge.settings(name) if sweep else (name,))):
        parts(spec, window, reuse)
    chosen = tasks.get(task)
    swept, reported = chosen.sample(valid, seed=seed, split="valid"), chosen.sample(test, seed=seed, split="test")
    network = open_model(model or chosen.model, device, dtype)
    with Progress(transient=True) as progress:
        bar = progress.add_task(task, total=None)
        points = judge.frontier(
            network, names, swept, reported, out, make=lambda spec: parts(spec, window, reuse), max_new_tokens=chosen.max_new_tokens, batch=batch, seed=seed,
            sweep=sweep, about={"task": task, "model": model or chosen.model, "window": window, "reuse": reuse},
            report=lambda what, done, total: progress.update(bar, description=what, completed=done, total=total),
        )  # fmt: skip
    title = f"{task}: accuracy against forwards, {test} test items"
    (out / "frontier.html").write_text(page(points, title), encoding="utf-8")
    console = Console()
    try:
        picture(points, title, out / "frontier.png")
    except RemaskError as error:
        typer.echo(f"note: {error}", err=True)
    console.print(frontier_table(points, f"{task}, {test} test items, window {window}"))
    console.print(loss_table(points, f"{task}: fewest forwards within {100 * judge.LOSS:g} point of one token per forward, as chosen on {valid} validation items"))


def frontier_table(points: Any, title: str) -> Any:
    """A line a setting; the area stands at a decoder's first."""
    from rich.table import Table

    from remask.evaluation.frontier import areas_of

    areas = areas_of(points)
    shown = Table("setting", "accuracy", "95 % interval", "forwards per row", "tokens per forward", "positions", "above the static frontier", "area", title=title)
    seen: set[str] = set()
    for point in points:
        total = "" if point.decoder in seen else f"{areas[point.decoder]:.3f}"
        seen.add(point.decoder)
        shown.add_row(
            point.spec, f"{point.accuracy:.3f}", "{:.3f}-{:.3f}".format(*point.interval), f"{point.forwards:.2f}", f"{point.tokens_per_forward:.2f}",
            f"{point.positions:.0f}", "" if point.gained is None else "{:+.3f} ({:+.3f} to {:+.3f})".format(*point.gained), total,
        )  # fmt: skip
    return shown


def loss_table(points: Any, title: str) -> Any:
    """A line a decoder: what it costs to lose next to nothing."""
    from rich.table import Table

    from remask.evaluation.frontier import at_loss

    shown = Table("decoder", "setting", "accuracy", "difference, 95 %", "forwards per row", "fewer forwards", "tokens per forward", title=title)
    for name, point in at_loss(points).items():
        if point is None:
            shown.add_row(name, "none", "", "", "", "", "")
            continue
        shown.add_row(
            name, point.spec, f"{point.accuracy:.3f}", "{:+.3f} ({:+.3f} to {:+.3f})".format(*point.lost), f"{point.forwards:.2f}",
            f"{points[0].forwards / point.forwards:.1f}x", f"{point.tokens_per_forward:.2f}",
        )  # fmt: skip
    return shown


@app.command("reuse")
def reuse(
    task: TaskSpec,
    rule: Annotated[list[str] | None, typer.Option("--reuse", help="A spec string; may be given many times.")] = None,
    decoder: DecoderSpec = "low_confidence",
    model: Annotated[str, typer.Option(help="Empty: the shipped checkpoint for the task.")] = "",
    n: Annotated[int, typer.Option("-n", help="Items.")] = 32,
    split: Annotated[str, typer.Option(help="train, valid or test.")] = "test",
    device: Device = "cpu",
    dtype: Dtype = "",
    window: WindowSpec = "whole",
    batch: Annotated[int, typer.Option(help="Rows decoded together.")] = 16,
    seed: Seed = 0,
    out: Annotated[Path | None, typer.Option(help="The summaries as JSON.")] = None,
) -> None:
    """Reuse rules against the same decoder without reuse: accuracy, flipped tokens, FLOPs of the layers and seconds, in one run."""
    from rich.console import Console
    from rich.progress import Progress
    from rich.table import Column, Table

    from remask.evaluation import reuse as judge
    from remask.evaluation import tasks

    specs = list(dict.fromkeys([judge.REFERENCE, *(rule or ["surelock", "prefix", "dual", "dual:inner=(surelock)"])]))
    rules = {spec: parts(decoder, window, spec) for spec in specs}
    chosen = tasks.get(task)
    items = chosen.sample(n, seed=seed, split=split)
    network = open_model(model or chosen.model, device, dtype)
    with Progress(transient=True) as progress:
        bar = progress.add_task(task, total=n * len(specs))
        found = judge.compare(network, items, rules, max_new_tokens=chosen.max_new_tokens, batch=batch, seed=seed, report=lambda done: progress.update(bar, completed=done))
    if out is not None:
        settings = {"task": task, "split": split, "decoder": decoder, "window": window, "batch": batch}
        out.write_text(json.dumps({**settings, "reuse": found}, indent=2) + "\n", encoding="utf-8")
    shown = Table(
        Column("reuse", no_wrap=True),
        "accuracy",
        "difference, 95 %",
        "flipped",
        "forwards per row",
        "FLOPs",
        "seconds",
        title=f"{task}, {n} {split} items, {decoder}, window {window}",
    )
    for spec, made in found.items():
        mean, low, high = made["difference"]
        shown.add_row(
            spec, f"{made['accuracy']:.3f}", f"{mean:+.3f} ({low:+.3f} to {high:+.3f})", f"{made['flip_rate']:.4f}", f"{made['forwards_per_row']:.1f}",
            f"{made['flops_ratio']:.3f}", f"{made['seconds_ratio']:.3f}",
        )  # fmt: skip
    Console().print(shown)


def table(found: dict[str, dict[str, Any]]) -> Any:
    """The summaries, a decoder a line."""
    from rich.table import Column, Table

    shown = Table(Column("decoder", no_wrap=True), "accuracy", "95 % interval", "forwards per row", "tokens per forward", "tok/s", "fewer forwards")
    base = found[REFERENCE]["forwards_per_row"]
    for spec, summary in found.items():
        low, high = summary["interval"]
        forwards = summary["forwards_per_row"]
        shown.add_row(
            spec, f"{summary['accuracy']:.3f}", f"{low:.3f}-{high:.3f}", f"{forwards:.1f}", f"{summary['tokens_per_forward']:.2f}", f"{summary['tokens_per_second']:.0f}",
            f"{base / max(forwards, 1e-9):.1f}x",
        )  # fmt: skip
    return shown
