"""The queue and the loop: admit what fits, step every cohort, hand out what happened."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import replace
from typing import Any

import torch

from remask.canvas import Canvas
from remask.denoise import Plan
from remask.engine.cohort import Cohort, advance, lengthened
from remask.engine.packing import packs, usual_cost
from remask.engine.request import QueueFull, Request, Ticket
from remask.engine.room import Need, Sizes, free_bytes, probed
from remask.engine.row import Row, stop_rows, tell
from remask.engine.waiting import Waiting
from remask.errors import RemaskError
from remask.models.ragged import unpadded
from remask.windows.base import room

PLANS_KNOWN = 64
"""Plans whose bytes are remembered; another is measured again."""


class Engine:
    """Many requests through one network.

    max_rows: most rows at once.  memory: bytes for all rows, weights aside (None: four fifths of what the device has free now).
    queue: most requests that wait, of one client as many as it leaves places free; one more raises QueueFull.
    forward_cost: as many positions as one more forward is worth; rows are padded into one forward when that costs less (None: see remask.engine.packing.usual_cost).

    Clients take turns, and the rows of one are admitted in the order of arrival. None is passed over because it is large: the others wait until it has room.
    What a row is written with does not depend on the others: tests/engine.
    """

    def __init__(self, model: Any, *, max_rows: int = 32, memory: int | None = None, queue: int = 1024, forward_cost: int | None = None) -> None:
        for name, value in (("max_rows", max_rows), ("queue", queue)):
            if value < 1:
                raise RemaskError(f"{name} is {value}; it must be 1 or more")
        if getattr(model, "processes", 1) > 1:
            raise RemaskError(
                f"the network is split over {model.processes} processes, which would admit rows each by its own memory; decode batches with remask.generate, or load it whole"
            )
        self.model, self.max_rows, self.queue = model, max_rows, queue
        self._passes = unpadded(model)
        self.memory = free_bytes(model) if memory is None else memory
        self.forward_cost = usual_cost(model) if forward_cost is None else forward_cost
        with torch.inference_mode():
            self.sizes = Sizes.of(model)
        self._plans: deque[tuple[Plan, Need]] = deque(maxlen=PLANS_KNOWN)
        self._waiting = Waiting()
        self._cohorts: list[Cohort] = []
        self._changed = threading.Condition()
        self._network = threading.Lock()  # one caller at a time: a network may keep buffers of its own
        self._thread: threading.Thread | None = None
        self._closed = False

    @property
    def waiting(self) -> int:
        """Requests in the queue."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Rows in the batch."""
        return sum(cohort.count for cohort in self._cohorts)

    def submit(self, request: Request) -> Ticket:
        """Put a request into the queue. What can never be done raises at once, and changes nothing."""
        ticket = Ticket(request)
        row = self._prepared(ticket)
        if not bool(row.canvas.masked.any()):  # nothing to write
            row.end("length")
            return ticket
        with self._changed:
            if self._closed:
                raise RemaskError("the engine is closed; start another one")
            if len(self._waiting) >= self.queue:
                raise QueueFull(f"{len(self._waiting)} requests wait already; try again later, or raise queue={self.queue}")
            if request.client and self._waiting.of(request.client) >= self.queue - len(self._waiting):
                raise QueueFull(f"{self._waiting.of(request.client)} requests of this client wait already; try again later, or raise queue={self.queue}")
            self._waiting.add(row)
            self._changed.notify_all()
        return ticket

    def step(self) -> bool:
        """Admit what fits and step every row once; for callers without a thread. False when nothing runs or waits."""
        with self._network, torch.inference_mode():
            self._drop()
            self._admit()
            self._cohorts = [left for cohort in self._cohorts if (left := self._stepped(cohort)) is not None]
        return bool(self._cohorts or self._waiting)

    def start(self) -> Engine:
        """Run in a thread of its own until `close`."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="remask-engine", daemon=True)
            self._thread.start()
        return self

    def close(self, drain: bool = True) -> None:
        """Take no more requests; finish what runs and waits, or with drain=False cancel it."""
        with self._changed:
            self._closed = True
            if not drain:
                for row in [*self._waiting, *(rider for cohort in self._cohorts for rider in cohort.riders)]:
                    row.ticket.cancel()
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
        while self.step():
            pass

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._waiting or self._cohorts)
                if self._closed and not self._waiting and not self._cohorts:
                    return
            try:
                self.step()
            except Exception as error:  # a defect of ours: callers hear of it rather than wait for ever
                for group in (group for cohort in self._cohorts for group in cohort.groups):
                    stop_rows(group, dict.fromkeys(range(group.count), "error"), error)
                self._cohorts = []
                with self._changed:
                    guilty = self._waiting.take() if self._waiting else None
                if guilty is not None:  # it may be what the next row brings along
                    guilty.end("error", error=error)

    def _prepared(self, ticket: Ticket) -> Row:
        """The row of a request, or an error that says why it can never run."""
        request, model = ticket.request, self.model
        prompt = [int(token) for token in request.prompt_ids]
        if request.max_new_tokens < 0:
            raise RemaskError(f"max_new_tokens is {request.max_new_tokens}; it must be 0 (infill) or more")
        if request.max_forwards is not None and request.max_forwards < 1:
            raise RemaskError(f"max_forwards is {request.max_forwards}; it must be 1 or more, or None")
        vocabulary = getattr(model, "vocab_size", None)
        if vocabulary is not None and (wrong := [token for token in prompt if not 0 <= token < vocabulary]):
            raise RemaskError(f"token {wrong[0]} in the prompt is outside the vocabulary of {vocabulary}; encode the prompt with the model's own tokenizer")
        if request.window.grows and not request.max_new_tokens:
            raise RemaskError(f"window {request.window} lengthens its canvas, and the gaps of an infill have their length; use another window")
        new = room(request.window, prompt, request.max_new_tokens, model.mask_id)
        canvas = Canvas.from_prompts([prompt], max_new_tokens=new, mask_id=model.mask_id, device=getattr(model, "device", None))
        if model.max_length is not None and canvas.shape[1] > model.max_length:
            raise RemaskError(f"the canvas has {canvas.shape[1]} positions and the model was made for {model.max_length}; shorten the prompt or max_new_tokens")
        plan = request.plan if getattr(model, "lazy", False) else replace(request.plan, observed=False)  # else it is all one, and rows of one plan share a step
        row = Row(ticket, plan, canvas, self._need(plan), model.max_length)
        if self.memory is not None and row.nbytes > self.memory:
            raise RemaskError(f"a row of {row.longest} positions needs {int(row.nbytes):,} bytes and the engine has {self.memory:,}; shorten it, or raise memory=")
        return row

    def _need(self, plan: Plan) -> Need:
        """What a row needs, measured once for equal plans."""
        with self._changed:
            for known, need in self._plans:
                if known == plan:
                    return need
        with self._network, torch.inference_mode():
            need = self.sizes.row(plan, *probed(self.model, plan))
        with self._changed:
            self._plans.append((plan, need))
        return need

    def _drop(self) -> None:
        """Take out what was cancelled or is overdue."""
        with self._changed:
            gone = [row for row in self._waiting if row.stopped]
            for row in gone:
                self._waiting.remove(row)
        for row in gone:
            row.end(row.stopped or "cancelled")
        self._cohorts = [left for cohort in self._cohorts if (left := self._without_stopped(cohort)) is not None]

    def _without_stopped(self, cohort: Cohort) -> Cohort | None:
        reasons = [row.stopped for row in cohort.riders]
        if not any(reasons):
            return cohort
        for group, piece in zip(cohort.groups, cohort.slices, strict=True):
            stop_rows(group, {place: reason for place, reason in enumerate(reasons[piece]) if reason})
        stay = [index for index, reason in enumerate(reasons) if not reason]
        return cohort.rows(stay) if stay else None

    def _admit(self) -> None:
        """Move rows from the queue into the batch while there is room, in turn; then pack."""
        while self._waiting and self.running < self.max_rows:
            with self._changed:
                row = self._waiting.first()
            try:
                newcomer = Cohort.of(row.canvas, row.plan, row.ticket.request.seed, row)
            except Exception as error:  # of a part: this request's own affair
                self._take()
                row.end("error", error=error)
                continue
            if self._cohorts and not self._fits(self._packed([*self._cohorts, newcomer])):
                break
            self._take()
            row.ticket.admitted = time.monotonic()
            self._cohorts.append(newcomer)
        bundles = self._packed(self._cohorts)
        if self._fits(bundles):  # else what has become shorter stays apart, since padding would need the room
            self._cohorts = [Cohort.joined(bundle) for bundle in bundles]

    def _take(self) -> Row:
        with self._changed:
            return self._waiting.take()

    def _fits(self, bundles: list[list[Cohort]]) -> bool:
        return self.memory is None or sum(map(self._needs, bundles)) <= self.memory

    def _packed(self, cohorts: list[Cohort]) -> list[list[Cohort]]:
        """Which cohorts to join: those of one manner, where padding costs less than a forward."""
        bundles: list[list[Cohort]] = []
        manners = [cohort.manner.by(self.model) for cohort in cohorts]
        for manner in dict.fromkeys(manners):
            same = [cohort for cohort, own in zip(cohorts, manners, strict=True) if own == manner]
            bundles += [[same[index] for index in pack] for pack in packs([c.count for c in same], [c.length for c in same], self.forward_cost)]
        return bundles

    def _needs(self, bundle: list[Cohort]) -> float:
        """Bytes of cohorts that are one, when every row is as long as it may become."""
        rows = [rider for cohort in bundle for rider in cohort.riders]
        length = max(row.longest for row in rows)
        return sum(row.nbytes_on(length) for row in rows)

    def _stepped(self, cohort: Cohort) -> Cohort | None:
        """The cohort after a step, without the rows that are done. If it fails, every row is stepped alone, and those fail that do it again."""
        try:
            before = lengthened(self._passes, cohort)
            after, seen = advance(self._passes, before)
        except Exception as error:
            if cohort.count == 1:
                stop_rows(cohort.groups[0], {0: "error"}, error)
                return None
            apart = [self._stepped(cohort.rows([index])) for index in range(cohort.count)]
            left = [one for one in apart if one is not None]
            return Cohort.joined(left) if left else None
        ends = [end for old, new, made in zip(before.groups, after.groups, seen, strict=True) for end in tell(old, new, made, self.model.eos_ids)]
        stay = [index for index, end in enumerate(ends) if not end]
        return after.rows(stay) if stay else None
