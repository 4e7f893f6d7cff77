"""A model behind an engine, and how it is offered."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from remask.engine import Engine
from remask.errors import RemaskError
from remask.server.limits import Limits
from remask.server.metrics import Metrics

LONGEST = 1 << 14
"""Positions of a canvas where the model names no limit of its own."""


@dataclass(frozen=True)
class Service:
    """A model behind an engine. name: what clients call it.  timeout: seconds a row may take, waiting included.  traces: a folder for a trace of every request."""

    engine: Engine
    name: str = "remask"
    timeout: float = 300.0
    limits: Limits = Limits()
    traces: Path | None = None
    metrics: Metrics = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", Metrics(self.engine))
        if self.engine.model.tokenizer is None:
            raise RemaskError("this checkpoint has no tokenizer files; put tokenizer.json beside config.json to serve it")
        if self.traces is not None:
            try:
                self.traces.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise RemaskError(f"cannot make the folder {self.traces} for traces ({error.strerror}); name another one") from None

    @property
    def longest(self) -> int:
        """Most positions of a canvas."""
        return self.engine.model.max_length or LONGEST
