"""One app a replica, over many GPUs or machines, through Ray Serve (extras `serve` and `ray`): replicas, routing, restarts and scaling are Ray's.

serve run remask.server.replicas:application model=demo replicas=4 gpus=1
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fastapi import FastAPI
from pydantic import BaseModel
from ray import serve

from remask.engine import Engine
from remask.models import load
from remask.server.app import create_app
from remask.server.limits import Limits
from remask.server.service import Service


class Options(BaseModel):
    """As those of `remask serve`, with replicas: how many, and gpus: of each, parts of one allowed.  traces: as its --trace."""

    model: str = "demo"
    device: str = "cpu"
    dtype: str | None = None
    fused: bool = False
    name: str = "remask"
    api_key: str | None = None
    rows: int = 32
    queue: int = 1024
    timeout: float = 300.0
    replicas: int = 1
    gpus: float = 0.0
    traces: Path | None = None


def replica(options: Options) -> FastAPI:
    """The app of one replica, with a model and an engine of its own; it is built where it runs."""
    network = load(options.model, device=options.device, dtype=options.dtype, fused=options.fused)
    return create_app(
        Service(Engine(network, max_rows=options.rows, queue=options.queue), options.name, options.timeout, Limits(tuple((options.api_key or "").split())), options.traces)
    )


def application(options: Options) -> Any:
    """What `serve run` deploys."""

    @serve.deployment(name="remask", num_replicas=options.replicas, ray_actor_options={"num_gpus": options.gpus}, max_ongoing_requests=options.queue)
    @serve.ingress(lambda: replica(options))
    class Replica:
        pass

    return Replica.bind()
