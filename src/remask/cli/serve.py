"""`remask serve`."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer

from remask.cli.opening import Way, open_model
from remask.cli.options import Device, Dtype, Fused, Model, Revision, Rows


def run(
    model: Model = "demo",
    revision: Revision = None,
    device: Device = "cpu",
    dtype: Dtype = "",
    fused: Fused = False,
    host: Annotated[str, typer.Option(help="0.0.0.0 to be reached from other machines.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="0 takes a free one.")] = 8000,
    name: Annotated[str, typer.Option(help="What clients call the model; empty: as --model.")] = "",
    api_key: Annotated[
        str,
        typer.Option(envvar="REMASK_API_KEY", help="Clients must send it; better in the environment than here. Several, with spaces between them, take turns.", show_envvar=True),
    ] = "",
    rows: Rows = 32,
    queue: Annotated[int, typer.Option(help="Most rows that wait, half as many of one client alone; one more is answered 429.")] = 1024,
    timeout: Annotated[float, typer.Option(help="Seconds a row may take, waiting included.")] = 300.0,
    trace: Annotated[Path | None, typer.Option(metavar="FOLDER", help="Write what every step of every request did: a file named by its id, for `remask trace`.")] = None,
    most_bytes: Annotated[int, typer.Option(help="Of a request's body.")] = 1 << 20,
) -> None:
    """Serve a model by OpenAI's protocol, with a page at / that shows it at work. Needs the extra `serve`."""
    from remask.errors import RemaskError

    try:
        import uvicorn

        from remask.server.app import create_app
        from remask.server.limits import Limits
        from remask.server.service import Service
    except ModuleNotFoundError as error:
        raise RemaskError(f"{error.name} is not installed; pip install 'remask[serve]'") from None

    from remask.engine import Engine

    if not 0 < timeout < float("inf") or most_bytes < 1 or not 0 <= port < 1 << 16:
        raise RemaskError(f"timeout {timeout}, most-bytes {most_bytes}, port {port}: use a timeout above 0 and not infinite, at least 1 byte, and a port below 65536")
    network = open_model(model, device, dtype, revision, way=Way(fused))
    service = Service(Engine(network, max_rows=rows, queue=queue), name or os.path.basename(model.rstrip("/")), timeout, Limits(tuple(api_key.split()), most_bytes), trace)
    uvicorn.run(create_app(service), host=host, port=port, access_log=False, timeout_graceful_shutdown=int(timeout) + 1, server_header=False)
