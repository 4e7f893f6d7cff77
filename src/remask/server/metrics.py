"""What /metrics counts, in Prometheus' text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from remask.engine import Engine
from remask.server.answer import Answer

SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """Counters of one app; nothing is global, so that two apps in a process don't mix."""

    def __init__(self, engine: Engine) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter("remask_requests", "Answered requests.", ["route", "status"], registry=self.registry)
        self.seconds = Histogram("remask_request_seconds", "From the request to the end of its answer.", ["route"], buckets=SECONDS, registry=self.registry)
        self.first = Histogram("remask_first_text_seconds", "From the request to the first settled text of a stream.", buckets=SECONDS, registry=self.registry)
        self.generated = Counter("remask_generated_tokens", "Tokens before the end of the text.", registry=self.registry)
        self.forwards = Counter("remask_forwards", "Network evaluations, summed over rows.", registry=self.registry)
        self.positions = Counter("remask_positions", "Positions computed, summed over rows.", registry=self.registry)
        for name, text, value in (
            ("remask_rows_running", "Rows in the batch.", lambda: engine.running),
            ("remask_rows_waiting", "Rows in the queue.", lambda: engine.waiting),
        ):
            Gauge(name, text, registry=self.registry).set_function(value)

    def count(self, answer: Answer) -> None:
        """A row that ended."""
        self.generated.inc(len(answer.ids))
        self.forwards.inc(answer.forwards)
        self.positions.inc(answer.positions)

    def text(self) -> bytes:
        """The page that Prometheus reads."""
        return generate_latest(self.registry)
