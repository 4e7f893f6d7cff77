"""Lines through Ray Data: the same work on many GPUs or machines, each worker with a network and an engine of its own."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from remask.batch.lines import Settings
from remask.batch.run import Line, through
from remask.engine import Engine
from remask.errors import RemaskError
from remask.models.loading import load
from remask.trace.file import Spelling, TraceFile, written
from remask.trace.record import Record


class Worker:
    """For `map_batches`: columns `index` and `text` of lines -> columns `record` of JSON and `trace`, with `traced` the lines of a trace until then.

    network, engine: keyword arguments of remask.load and of Engine, the same for every worker.
    """

    def __init__(self, model: str, network: Mapping[str, Any], settings: Settings, engine: Mapping[str, Any], traced: bool) -> None:
        self.settings, self.traced, self.engine = settings, traced, Engine(load(model, **network), **engine)

    def __call__(self, batch: Mapping[str, Sequence[Any]]) -> dict[str, list[str]]:
        lines = [Line(int(index), bytes(text)) for index, text in zip(batch["index"], batch["text"], strict=True)]
        kept: list[Record] = []
        spelling = Spelling(self.engine.model.tokenizer)
        made: dict[str, list[str]] = {"record": [], "trace": []}
        for record in through(self.engine, lines, self.settings, trace=kept if self.traced else None):
            made["record"].append(json.dumps(record, ensure_ascii=False))
            made["trace"].append("".join(written(seen, spelling) for seen in kept))
            kept.clear()
        return made


def through_ray(
    lines: Sequence[Line],
    settings: Settings,
    *,
    model: str,
    device: str = "cpu",
    dtype: str | None = None,
    fused: bool = False,
    workers: int = 2,
    rows: int = 32,
    trace: TraceFile | None = None,
) -> Iterator[dict[str, Any]]:
    """A record for each line, as `workers` of a Ray cluster hand them back: the one that RAY_ADDRESS names, else a local one.

    Workers decode with the parts that `run` has read, which travel with `settings`, and open no file that one names.
    A worker on a GPU takes a whole one. Lines that a lost worker held are done again by another: Ray's affair.  trace: as of `through`.
    """
    try:
        import ray
        import ray.data
    except ImportError:
        raise RemaskError("Ray is not installed; pip install 'remask[ray]', or leave out --ray") from None
    if not lines:
        return
    if not ray.is_initialized():
        ray.init(log_to_driver=False, include_dashboard=False)
    data = ray.data.from_items([{"index": line.index, "text": line.text} for line in sorted(lines, key=lambda line: -len(line.text))])
    made = data.map_batches(
        Worker,
        fn_constructor_args=(model, {"device": device, "dtype": dtype, "fused": fused}, settings, {"max_rows": rows}, trace is not None),
        batch_size=4 * rows,
        compute=ray.data.ActorPoolStrategy(size=workers),
        num_gpus=1 if device.startswith("cuda") else 0,
    )
    for row in made.iter_rows():
        if trace is not None:
            trace.add(row["trace"])
        yield json.loads(row["record"])
