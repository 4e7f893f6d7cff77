"""What a caller hands to the engine, and what comes back."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from remask.decoders.base import Decoder
from remask.decoders.low_confidence import LowConfidence
from remask.denoise import Plan
from remask.errors import RemaskError
from remask.reuse.base import Reuse
from remask.reuse.fresh import Fresh
from remask.shapers import Shaper
from remask.trace.record import Event, Opening, Record
from remask.windows.base import Window
from remask.windows.whole import Whole

Reason = Literal["stop", "length", "cancelled", "deadline", "budget", "error"]
"""Why a row ended. stop: an end-of-text was written.  length: the canvas is full.  budget: `max_forwards` were made."""


class QueueFull(RemaskError):
    """Too many requests wait; try again later."""


@dataclass(frozen=True, eq=False)
class Request:
    """One row. A mask id inside the prompt is to be filled in; max_new_tokens=0 does only that. Blocks that do not divide are filled up.

    max_forwards: the row ends with what it has after so many network evaluations.  deadline: the same after so many seconds since it
    was submitted.  updates: False keeps only the last one.  confidence: updates carry the largest probability of every position.
    client: whose it is: clients take turns, and one leaves room in the queue for others; "" is nobody in particular, who may fill it.
    record: updates carry what a trace has of the row, the run of which is called `run`; with drafts, unless `drafts` is False.
    """

    prompt_ids: Sequence[int]
    max_new_tokens: int = 128
    decoder: Decoder = LowConfidence()
    window: Window = Whole()
    reuse: Reuse = Fresh()
    shapers: Sequence[Shaper] = ()
    seed: int = 0
    early_stop: bool = True
    max_forwards: int | None = None
    deadline: float | None = None
    client: str = ""
    updates: bool = True
    confidence: bool = False
    record: bool = False
    drafts: bool = True
    run: str = "0"

    @property
    def plan(self) -> Plan:
        """Its parts; rows with equal plans are stepped together."""
        window, _ = self.window.opened(self.max_new_tokens)
        return Plan(self.decoder, window, self.reuse, tuple(self.shapers), self.early_stop, observed=self.record or self.confidence)


@dataclass(frozen=True, eq=False)
class Update:
    """What a step did to one row, on the CPU. tokens: (L,) int64, prompt and canvas.  given, masked, written, remasked: (L,) bool.

    confidence: (L,) float, if asked for.  opening, event: of the row, in its first update, and of the step that made this one, if asked for.
    start, stop: the positions that were asked for, past the prompt.  forwards, positions: so far.
    The last one of a row is `done` and has a reason; with reason "error", `error` says what went wrong. A window that grows lengthens the row
    between updates: written and remasked then speak of what the pass did, not of the positions that came before it.
    """

    tokens: Tensor
    given: Tensor
    masked: Tensor
    written: Tensor
    remasked: Tensor
    start: int
    stop: int
    forwards: int
    positions: int
    confidence: Tensor | None = None
    opening: Opening | None = None
    event: Event | None = None
    done: bool = False
    reason: Reason | None = None
    error: Exception | None = None

    @property
    def answer(self) -> Tensor:
        """(max_new_tokens,) int64, fewer if the window found the row's length; the mask where nothing was written yet."""
        return self.tokens[self.start : self.stop]

    @property
    def records(self) -> list[Record]:
        """What it adds to a trace."""
        return [record for record in (self.opening, self.event) if record is not None]


class Ticket:
    """A request on its way: iterate for its updates, or wait for the result. Safe to use from any thread, by one reader.

    submitted, admitted, finished: seconds of time.monotonic(), None until then.
    """

    def __init__(self, request: Request) -> None:
        self.request = request
        self.submitted = time.monotonic()
        self.admitted: float | None = None
        self.finished: float | None = None
        self.cancelled = False
        self._last: Update | None = None
        self._unread: deque[Update] = deque()
        self._changed = threading.Condition()
        self._listener: Callable[[], object] | None = None

    @property
    def done(self) -> bool:
        """The row has ended."""
        return self._last is not None and self._last.done

    @property
    def overdue(self) -> bool:
        """Its deadline has passed."""
        return self.request.deadline is not None and time.monotonic() - self.submitted >= self.request.deadline

    def cancel(self) -> None:
        """Give the row back at the next step; a ticket that is done stays as it is."""
        self.cancelled = True

    def result(self, timeout: float | None = None) -> Update:
        """The last update. Raises TimeoutError after `timeout` seconds, and the row's own error if it failed."""
        with self._changed:
            if not self._changed.wait_for(lambda: self.done, timeout):
                raise TimeoutError(f"no result after {timeout} s; wait longer, or cancel the ticket")
        assert self._last is not None
        if self._last.error is not None:
            raise self._last.error
        return self._last

    def __iter__(self) -> Iterator[Update]:
        """Every update not read yet, as they come, until the row is done."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._unread or self.done)
                if not self._unread:
                    return
                update = self._unread.popleft()
            yield update

    def listen(self, listener: Callable[[], object]) -> None:
        """Call this after every update, in the engine's thread, and now if there is one: for readers that cannot wait in a thread, as an event loop."""
        with self._changed:
            self._listener = listener
            missed = bool(self._unread)
        if missed:
            listener()

    def take(self) -> list[Update]:
        """Every update not read yet, without waiting."""
        with self._changed:
            taken = list(self._unread)
            self._unread.clear()
        return taken

    def put(self, update: Update) -> None:
        """Called by the engine."""
        with self._changed:
            self._last = update
            if update.done:
                self.finished = time.monotonic()
            self._unread.append(update)
            self._changed.notify_all()
            listener = self._listener
        if listener is not None:
            listener()
