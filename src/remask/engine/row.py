"""A request in the batch, and what its caller is told after every step."""

from __future__ import annotations

from dataclasses import replace

from torch import Tensor

from remask.canvas import Canvas
from remask.denoise import Plan, Step
from remask.engine.cohort import Group
from remask.engine.request import Reason, Ticket, Update
from remask.engine.room import Need
from remask.trace.record import Event, Opening, event


class Row:
    """A ticket with its plan, its first canvas (1, L), and what it needs.

    start, stop: the positions that were asked for.  length, longest: positions now, and the most there can be; limit: the model's.
    most_open: the most positions that are eligible at once.
    """

    def __init__(self, ticket: Ticket, plan: Plan, canvas: Canvas, need: Need, limit: int | None) -> None:
        self.ticket, self.plan, self.canvas, self.need = ticket, plan, canvas, need
        self.opened = False
        self.start = len(ticket.request.prompt_ids)
        self.stop = self.start + ticket.request.max_new_tokens
        self.length, new = canvas.shape[1], int(canvas.masked.sum())
        most_new = self.plan.window.most_new(new)
        self.most_open, longest = self.plan.window.most_open(most_new), self.length - new + most_new
        self.longest = longest if limit is None else min(longest, limit)

    @property
    def nbytes(self) -> float:
        """Bytes on a canvas of its own."""
        return self.nbytes_on(self.longest)

    def nbytes_on(self, length: int) -> float:
        """Bytes on a canvas of `length` positions."""
        return self.need.of(length, self.most_open)

    @property
    def stopped(self) -> Reason | None:
        """Why it should end although it is not done."""
        return "cancelled" if self.ticket.cancelled else "deadline" if self.ticket.overdue else None

    def update(self, canvas: Canvas, written: Tensor, remasked: Tensor, confidence: Tensor | None, forwards: int, positions: int) -> Update:
        """From a row of a batch on the CPU: canvas (1, L), the others (L,), perhaps padded."""
        cut = slice(int(canvas.real.sum()))
        sure = None if confidence is None or not self.ticket.request.confidence else confidence[cut]
        tokens, given, masked = canvas.tokens[0, cut], canvas.given[0, cut], canvas.masked[0, cut]
        return Update(tokens, given, masked, written[cut], remasked[cut], self.start, self.stop, forwards, positions, sure, self.opening())

    def opening(self) -> Opening | None:
        """This row before its first step, as a trace has it; None if that was told, or nobody asked."""
        request = self.ticket.request
        if self.opened or not request.record:
            return None
        self.opened = True
        parts = {"decoder": request.decoder, "window": request.window, "reuse": request.reuse, "shapers": ", ".join(map(str, request.shapers))}
        return Opening(request.run, self.canvas.tokens[0].tolist(), self.canvas.mask_id, request.seed, {name: str(part) for name, part in parts.items()})

    def happened(self, before: Group, made: Step, place: int, *, grew: bool) -> Event:
        """What a step did to this row, as a trace has it."""
        request = self.ticket.request
        return event(before.state.canvas, made, place, request.run, int(before.state.step[place]), drafts=request.drafts, grew=grew)

    def end(self, reason: Reason, canvas: Canvas | None = None, forwards: int = 0, positions: int = 0, error: Exception | None = None) -> None:
        """Tell that it ends as it stands: canvas (1, L), or as it began."""
        canvas = self.canvas if canvas is None else canvas
        nothing = canvas.masked[0].cpu() & False
        update = self.update(on_cpu(canvas), nothing, nothing, None, forwards, positions)
        self.ticket.put(replace(update, done=True, reason=reason, error=error))


def stop_rows(group: Group, reasons: dict[int, Reason], error: Exception | None = None) -> None:
    """End these rows of a group as they stand."""
    for place, reason in reasons.items():
        canvas = group.state.canvas.rows(slice(place, place + 1))
        group.riders[place].end(reason, canvas, int(group.state.forwards[place]), int(group.state.positions[place]), error)


def tell(before: Group, after: Group, made: Step, eos_ids: tuple[int, ...]) -> list[bool]:
    """Tell every row of a group what a step did to it; returns which are done. before: on the canvas that the pass saw."""
    rows: tuple[Row, ...] = after.riders
    old, canvas = on_cpu(before.state.canvas), on_cpu(made.canvas)
    written, remasked = (canvas.tokens != old.tokens) & ~canvas.masked, canvas.masked & ~old.masked
    confidence = made.prediction.raw.confidence.cpu() if any(row.ticket.request.confidence for row in rows) else None
    done, forwards, positions, lengths = made.done.tolist(), made.forwards.tolist(), made.positions.tolist(), canvas.real.sum(1).tolist()
    ends: list[bool] = []
    for place, row in enumerate(rows):
        reason = ending(row, canvas.tokens[place], eos_ids, done[place], forwards[place])
        if row.ticket.request.updates or reason:
            sure = None if confidence is None else confidence[place]
            update = row.update(canvas.rows(slice(place, place + 1)), written[place], remasked[place], sure, forwards[place], positions[place])
            happened = row.happened(before, made, place, grew=lengths[place] != row.length) if row.ticket.request.record else None
            row.ticket.put(replace(update, event=happened, done=reason is not None, reason=reason))
        row.length = lengths[place]
        ends.append(reason is not None)
    return ends


def ending(row: Row, tokens: Tensor, eos_ids: tuple[int, ...], done: bool, forwards: int) -> Reason | None:
    """Why a row ends after a step, None if it goes on."""
    if done:
        return "stop" if any(token in eos_ids for token in tokens[row.start : row.stop].tolist()) else "length"
    most = row.ticket.request.max_forwards
    return "budget" if most is not None and forwards >= most else None


def on_cpu(canvas: Canvas) -> Canvas:
    """The same, where callers read it."""
    return replace(canvas, tokens=canvas.tokens.cpu(), given=canvas.given.cpu(), real=canvas.real.cpu())
