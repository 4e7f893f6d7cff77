"""`remask batch`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from remask.cli.opening import Way, network_settings, open_model, open_trace
from remask.cli.options import DecoderSpec, Device, Dtype, Fused, Model, ReuseSpec, Rows, Temperature, TopK, TopP, Trace, WindowSpec
from remask.cli.progress import counted


def run(
    source: Annotated[Path, typer.Argument(metavar="IN", help="JSON lines, each with a prompt, messages or tokens; id and any of the options below may stand beside it.")],
    out: Annotated[Path, typer.Argument(help="JSON lines in the order of the input; an unfinished file of the same settings is continued.")],
    model: Model = "demo",
    device: Device = "cpu",
    dtype: Dtype = "",
    fused: Fused = False,
    decoder: DecoderSpec = "low_confidence",
    window: WindowSpec = "whole",
    reuse: ReuseSpec = "fresh",
    temperature: Temperature = 0.0,
    top_p: TopP = 1.0,
    top_k: TopK = 0,
    max_new_tokens: Annotated[int, typer.Option(help="Room behind each prompt.")] = 128,
    seed: Annotated[int, typer.Option(help="Line i uses seed + i.")] = 0,
    rows: Rows = 32,
    trace: Trace = None,
    ray: Annotated[bool, typer.Option(help="Spread the lines over a Ray cluster (extra `ray`).")] = False,
    workers: Annotated[int | None, typer.Option(help="With --ray: networks, 2 if not said, each on a GPU of its own if --device is cuda.")] = None,
) -> None:
    """Complete every line of a file. Lines that fail get an `error` instead of a text, and the exit status is then 1."""
    from remask.batch import Settings
    from remask.batch import run as work_through
    from remask.batch.cluster import through_ray
    from remask.batch.run import through
    from remask.engine import Engine
    from remask.errors import RemaskError
    from remask.models.loading import check_fused

    if workers is not None and not ray:
        raise RemaskError(f"--workers {workers}: only with --ray; --rows says how many lines are decoded at once")
    if ray and fused:
        check_fused(model)  # a worker would say it in a hundred lines
    settings = Settings(decoder, window, reuse, temperature, top_p, top_k, max_new_tokens, seed)
    way = Way(fused)
    engine = None if ray else Engine(open_model(model, device, dtype, way=way), max_rows=rows, queue=rows)
    opened = open_trace(trace, engine and engine.model.tokenizer, resume=out.exists())
    with counted(transient=True) as progress, opened as file:
        if engine is None:
            asked = {"device": device, "dtype": dtype or None, "fused": fused, "workers": 2 if workers is None else workers}
            work = partial(through_ray, settings=settings, model=model, **asked, rows=rows, trace=file)
        else:
            work = partial(through, engine, settings=settings, trace=file)
        bar = progress.add_task(source.name)
        network = network_settings(model, device, dtype, way)
        failed = work_through(source, out, settings, work, network=network, report=lambda done, total: progress.update(bar, completed=done, total=total))
    if failed:
        typer.echo(f"{failed} lines failed; their `error` in {out} says why", err=True)
        raise typer.Exit(1)
