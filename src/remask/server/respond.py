"""From a body to its answer, whole or streamed."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fastapi import Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.types import Receive, Scope, Send

from remask.engine import Ticket, Update
from remask.errors import RemaskError
from remask.server.answer import REASONS, Answer
from remask.server.asked import Refused, asked
from remask.server.bridge import submit_all, updates
from remask.server.chunks import CHAT, Form
from remask.server.limits import error_body
from remask.server.protocol import ChatBody, CompletionBody
from remask.server.service import Service
from remask.trace.file import Spelling, TraceFile, lines


@dataclass
class Row:
    """A row being answered. trace: where its steps are kept.  told: log-probabilities that a stream told."""

    number: int
    ticket: Ticket
    answer: Answer
    trace: TraceFile | None = None
    told: int = 0


class Events(StreamingResponse):
    """Server-sent events of rows, which are given back with the end of the answer.

    A generator that is merely left ends when it is collected, and its rows would be computed until then; one that was never begun, for a client who takes not even the
    head of the answer, ends without a word.
    """

    def __init__(self, events: AsyncGenerator[str, None], rows: Sequence[Row]) -> None:
        super().__init__(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
        self.events, self.rows = events, rows

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            await self.events.aclose()
            give_back(self.rows)


def named(service: Service, name: str | None) -> None:
    """Refuse another model's name."""
    if name is not None and name != service.name:
        raise Refused(f"no model {name!r} here; use {service.name!r}", param="model", status=404, code="model_not_found")


async def respond(service: Service, body: CompletionBody | ChatBody, request: Request, kind: str) -> Response:
    """The answer to a body, streamed if it asks for that."""
    began = time.monotonic()
    named(service, body.model)
    model = service.engine.model
    wanted = await asyncio.to_thread(
        asked, body, model, longest=service.longest, deadline=service.timeout, client=service.limits.client(request), traced=service.traces is not None
    )
    known = sum(token != model.mask_id for token in wanted.requests[0].prompt_ids)
    form = Form(kind, service.name, known, wanted.seed, logprobs=body.logprobs is not None and body.logprobs is not False)
    tickets = await asyncio.to_thread(submit_all, service.engine, wanted.requests)
    rows = [Row(number, ticket, Answer(model, wanted.first, wanted.last, wanted.stops, wanted.ends, wanted.held)) for number, ticket in enumerate(tickets)]
    if service.traces is not None:
        keep(rows, service.traces / f"{form.name}.jsonl", model.tokenizer)
    if body.stream:
        counted = body.stream_options is not None and body.stream_options.include_usage
        events = stream(service, rows, form, show=body.include_canvas, counted=counted, began=began)
        return Events(events, rows)
    if not await finished(service, rows, request):
        return Response(status_code=499)
    return JSONResponse(form.whole([row.answer for row in rows]))


def keep(rows: Sequence[Row], path: Path, tokenizer: Any) -> None:
    """Write what happens to these rows into a trace, or give them back if there can be none."""
    try:
        trace = TraceFile(path, tokenizer)
    except RemaskError as error:
        give_back(rows)
        raise OSError(str(error)) from error  # no fault of the client's, and no path for its eyes
    for row in rows:
        row.trace = trace


async def finished(service: Service, rows: Sequence[Row], request: Request) -> bool:
    """Wait for every row; False if the client left before that, and the rows are given back."""

    async def read_all() -> None:
        async for news in updates([row.ticket for row in rows]):
            for number, update in news:
                take(service, rows[number], update)

    reading, leaving = asyncio.create_task(read_all()), asyncio.create_task(gone(request))
    try:
        await asyncio.wait((reading, leaving), return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            reading.result()
        return reading.done()
    finally:
        for task in (reading, leaving):
            task.cancel()
        give_back(rows)


async def gone(request: Request) -> None:
    """Wait until the client leaves."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def give_back(rows: Sequence[Row]) -> None:
    """Nobody waits for these rows any more."""
    for row in rows:
        row.ticket.cancel()
        if row.trace is not None:
            row.trace.close()


def take(service: Service, row: Row, update: Update) -> str:
    """What an update adds to a row's text; an error if the row failed."""
    if row.trace is not None:
        for record in update.records:
            row.trace.append(record)
    ended = row.answer.finish is not None
    fresh = row.answer.read(update)
    if row.answer.finish is not None and not ended:
        if row.answer.finish not in REASONS.values():
            raise failed(update)
        service.metrics.count(row.answer)
        row.ticket.cancel()
    return fresh


def failed(update: Update) -> Refused:
    """Why a row has no answer."""
    if update.reason == "deadline":
        return Refused("the answer took longer than this server allows; ask for fewer tokens, or a faster decoder", status=504, code="timeout")
    if isinstance(update.error, RemaskError):
        return Refused(str(update.error))
    if update.reason == "cancelled":
        return Refused("the server is stopping; ask again", status=503)
    return Refused("the row failed inside the server", status=500)


async def stream(service: Service, rows: Sequence[Row], form: Form, *, show: bool, counted: bool, began: float) -> AsyncGenerator[str, None]:
    """Server-sent events: settled text as it grows, with `show` every step's record, with `counted` the counts at the end."""
    spelling, silent = Spelling(service.engine.model.tokenizer), True
    try:
        for row in rows if form.kind == CHAT else ():
            yield event(form.opening(row.number))
        async for news in updates([row.ticket for row in rows]):
            if not news:
                yield ": still at work\n\n"
            for number, update in news:
                chunk = grown(service, rows[number], update, form, spelling if show else None)
                if silent and rows[number].answer.text:
                    silent = False
                    service.metrics.first.observe(time.monotonic() - began)
                if chunk is not None:
                    yield event(chunk)
        if counted:
            yield event(form.counted([row.answer for row in rows]))
        yield "data: [DONE]\n\n"
    except Refused as error:
        yield event(error_body(error.status, str(error), param=error.param, code=error.code))
    finally:
        give_back(rows)


def grown(service: Service, row: Row, update: Update, form: Form, spelling: Spelling | None) -> dict[str, Any] | None:
    """The chunk that an update makes, None if it tells nothing."""
    over = row.answer.finish is not None
    fresh = take(service, row, update)
    finish = None if over else row.answer.finish
    records = [] if spelling is None else [line for record in update.records for line in lines(record, spelling)]
    if not fresh and not finish and not records:
        return None
    chances = row.answer.log_probabilities()[row.told :] if fresh else []
    row.told += len(chances)
    chunk = form.chunk(row.number, fresh, finish, chances)
    return {**chunk, "canvas": records} if records else chunk


def event(value: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=True, separators=(',', ':'), allow_nan=False)}\n\n"
