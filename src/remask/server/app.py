"""The routes."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, StreamingResponse
from starlette.exceptions import HTTPException

import remask
from remask.engine import Engine, QueueFull, Ticket, Update
from remask.engine import Request as EngineRequest
from remask.errors import RemaskError
from remask.server.answer import REASONS, Answer
from remask.server.asked import Asked, Refused, asked
from remask.server.bridge import submit_all, updates
from remask.server.chunks import CHAT, COMPLETION, Form
from remask.server.limits import Gate, Limits, error_body, failure
from remask.server.metrics import Metrics
from remask.server.protocol import ChatBody, CompletionBody, ErrorBody
from remask.trace.file import Spelling, lines
from remask.trace.page import live_page
from remask.trace.record import Opening

LONGEST = 1 << 14
"""Positions of a canvas where the model names no limit of its own."""
ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}}
ANSWERS: dict[int | str, dict[str, Any]] = {200: {"description": "The answer, or with stream a chunk an event.", "content": {"text/event-stream": {}}}, **ERRORS}


@dataclass(frozen=True)
class Service:
    """A model behind an engine. name: what clients call it.  timeout: seconds a row may take, waiting included."""

    engine: Engine
    name: str = "remask"
    timeout: float = 300.0
    limits: Limits = Limits()
    metrics: Metrics = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "metrics", Metrics(self.engine))
        if self.engine.model.tokenizer is None:
            raise RemaskError("this checkpoint has no tokenizer files; put tokenizer.json beside config.json to serve it")

    @property
    def longest(self) -> int:
        return self.engine.model.max_length or LONGEST


def create_app(service: Service) -> FastAPI:
    """The ASGI app. It starts the engine, and closes it when what runs is finished."""

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        service.engine.start()
        yield
        await asyncio.to_thread(service.engine.close)

    app = FastAPI(title="remask", version=remask.__version__, lifespan=lifespan, docs_url=None, redoc_url=None)
    add_routes(app, service)
    routes = frozenset(getattr(route, "path", "") for route in app.routes)
    app.add_middleware(Gate, limits=service.limits, metrics=service.metrics, routes=routes)
    app.add_exception_handler(RequestValidationError, on_invalid)
    app.add_exception_handler(HTTPException, on_http)
    app.add_exception_handler(RemaskError, on_refused)
    app.add_exception_handler(Exception, on_defect)
    return app


def add_routes(app: FastAPI, service: Service) -> None:
    """One function a route."""
    created = int(time.time())
    model = {"id": service.name, "object": "model", "created": created, "owned_by": "remask"}

    @app.post("/v1/completions", responses=ANSWERS, response_model=None)
    async def completions(body: CompletionBody, request: Request) -> Response:
        """Complete a text, fill a gap before a suffix, or fill the masks of a text."""
        return await respond(service, body, request, COMPLETION)

    @app.post("/v1/chat/completions", responses=ANSWERS, response_model=None)
    async def chat_completions(body: ChatBody, request: Request) -> Response:
        """Answer a conversation, by the checkpoint's own chat template."""
        return await respond(service, body, request, CHAT)

    @app.get("/v1/models", responses=ERRORS)
    async def models() -> dict[str, Any]:
        """The one model that is served."""
        return {"object": "list", "data": [model]}

    @app.get("/v1/models/{name:path}", responses=ERRORS)
    async def one_model(name: str) -> dict[str, Any]:
        """The model, if it has this name."""
        named(service, name)
        return model

    @app.get("/v1/remask/parts", responses=ERRORS)
    async def parts() -> dict[str, list[str]]:
        """Names that the fields decoder, window and reuse may begin with."""
        return {"decoders": [*remask.decoders()], "windows": [*remask.windows()], "reuses": [*remask.reuses()]}

    @app.get("/health", responses=ERRORS)
    async def health() -> dict[str, Any]:
        """How many rows run and wait."""
        return {"status": "ok", "running": service.engine.running, "waiting": service.engine.waiting}

    @app.get("/metrics", response_class=Response, responses=ERRORS)
    async def metrics() -> Response:
        """Prometheus' text format."""
        return Response(service.metrics.text(), media_type="text/plain; version=0.0.4")

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def page() -> HTMLResponse:
        """The page that shows two decoders at work."""
        return HTMLResponse(live_page())


def named(service: Service, name: str | None) -> None:
    """Refuse another model's name."""
    if name is not None and name != service.name:
        raise Refused(f"no model {name!r} here; use {service.name!r}", param="model", status=404, code="model_not_found")


async def respond(service: Service, body: CompletionBody | ChatBody, request: Request, kind: str) -> Response:
    """The answer to a body, streamed if it asks for that."""
    began = time.monotonic()
    named(service, body.model)
    model = service.engine.model
    wanted = await asyncio.to_thread(asked, body, model, longest=service.longest, deadline=service.timeout)
    tickets = await asyncio.to_thread(submit_all, service.engine, wanted.requests)
    form = Form(kind, service.name, logprobs=body.logprobs is not None and body.logprobs is not False)
    answers = [Answer(model, wanted.first, wanted.last, wanted.stops, wanted.ends, wanted.held) for _ in tickets]
    prompt_tokens = len([token for token in wanted.requests[0].prompt_ids if token != model.mask_id])
    if body.stream:
        usage = body.stream_options is not None and body.stream_options.include_usage
        events = stream(service, tickets, wanted, answers, form, prompt_tokens if usage else None, show=body.include_canvas, began=began)
        return StreamingResponse(events, media_type="text/event-stream", headers={"Cache-Control": "no-cache", "X-Accel-Buffering": "no"})
    if not await finished(service, tickets, answers, request):
        return Response(status_code=499)
    return JSONResponse(form.whole(answers, prompt_tokens, wanted.seed))


async def finished(service: Service, tickets: Sequence[Ticket], answers: Sequence[Answer], request: Request) -> bool:
    """Wait for every row; False if the client left before that, and the rows are given back."""

    async def read_all() -> None:
        async for news in updates(tickets):
            for row, update in news:
                take(service, tickets[row], answers[row], update)

    reading, leaving = asyncio.create_task(read_all()), asyncio.create_task(gone(request))
    try:
        await asyncio.wait((reading, leaving), return_when=asyncio.FIRST_COMPLETED)
        if reading.done():
            reading.result()
        return reading.done()
    finally:
        for task in (reading, leaving):
            task.cancel()
        for ticket in tickets:
            ticket.cancel()


async def gone(request: Request) -> None:
    """Wait until the client leaves."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


def take(service: Service, ticket: Ticket, answer: Answer, update: Update) -> str:
    """What an update adds to a row's answer; an error if the row failed."""
    ended = answer.finish is not None
    fresh = answer.read(update)
    if answer.finish is not None and not ended:
        if answer.finish not in REASONS.values():
            raise failed(update)
        service.metrics.count(answer)
        ticket.cancel()
    return fresh


def failed(update: Update) -> RemaskError:
    """Why a row has no answer."""
    if update.reason == "deadline":
        return Refused("the answer took longer than this server allows; ask for fewer tokens, or a faster decoder", status=504, code="timeout")
    if isinstance(update.error, RemaskError):
        return Refused(str(update.error))
    if update.reason == "cancelled":
        return Refused("the server is stopping; ask again", status=503)
    return Refused("the row failed inside the server", status=500)


async def stream(
    service: Service, tickets: Sequence[Ticket], wanted: Asked, answers: Sequence[Answer], form: Form, prompt_tokens: int | None, *, show: bool, began: float
) -> AsyncIterator[str]:
    """Server-sent events: settled text as it grows, with `show` every step's record, with prompt_tokens the counts at the end."""
    spelling = Spelling(service.engine.model.tokenizer)
    told, opened, silent = [0] * len(tickets), [False] * len(tickets), True
    try:
        for row in range(len(tickets) if form.kind == CHAT else 0):
            yield event(form.opening(row))
        async for news in updates(tickets):
            if not news:
                yield ": still at work\n\n"
            for row, update in news:
                answer, over = answers[row], answers[row].finish is not None
                fresh = take(service, tickets[row], answer, update)
                records: list[dict[str, Any]] = []
                if show and update.event is not None:
                    records = seen(update, wanted.requests[row], service.engine.model.mask_id, spelling, first=not opened[row])
                    opened[row] = True
                if fresh and silent:
                    silent = False
                    service.metrics.first.observe(time.monotonic() - began)
                if fresh or records or (answer.finish and not over):
                    chances = answer.log_probabilities()[told[row] :] if fresh else []
                    told[row] += len(chances)
                    chunk = form.chunk(row, fresh, None if over else answer.finish, chances)
                    yield event({**chunk, "canvas": records} if records else chunk)
        if prompt_tokens is not None:
            yield event(form.counted(answers, prompt_tokens, wanted.seed))
        yield "data: [DONE]\n\n"
    except Refused as error:
        yield event(error_body(error.status, str(error), param=error.param, code=error.code))
    finally:
        for ticket in tickets:
            ticket.cancel()


def seen(update: Update, asked_for: EngineRequest, mask_id: int, spelling: Spelling, *, first: bool) -> list[dict[str, Any]]:
    """A step as the lines of a trace, the row's opening before the first."""
    assert update.event is not None
    found = list(lines(update.event, spelling))
    if not first:
        return found
    tokens = torch.where(update.given, update.tokens, mask_id).tolist()
    settings = {name: remask.spec(getattr(asked_for, name)) for name in ("decoder", "window", "reuse")}
    return [*lines(Opening(asked_for.run, tokens, mask_id, asked_for.seed, settings), spelling), *found]


def event(value: dict[str, Any]) -> str:
    """One server-sent event."""
    return f"data: {json.dumps(value, ensure_ascii=True, separators=(',', ':'), allow_nan=False)}\n\n"


async def on_invalid(_: Request, error: Exception) -> Response:
    """A body that does not fit the protocol: the first field that is wrong."""
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    place = () if first["type"] == "json_invalid" else first["loc"][1:]
    where = ".".join(str(part) for part in place if "[" not in str(part))  # the arms of a union are no names of the client's
    return failure(400, f"{where or 'the body'}: {first['msg']}", param=where or None)


async def on_http(_: Request, error: Exception) -> Response:
    """Unknown routes, methods, and what the gate refuses."""
    assert isinstance(error, HTTPException)
    made = failure(error.status_code, str(error.detail))
    made.headers.update(error.headers or {})
    return made


async def on_refused(_: Request, error: Exception) -> Response:
    """A request that can't be done."""
    if isinstance(error, QueueFull):
        return failure(429, str(error), code="queue_full")
    if isinstance(error, Refused):
        return failure(error.status, str(error), param=error.param, code=error.code)
    return failure(400, str(error))


async def on_defect(_: Request, __: Exception) -> Response:
    """A defect of ours; its details stay in the log."""
    return failure(500, "the server failed; its log says why")
