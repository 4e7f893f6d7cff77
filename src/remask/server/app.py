"""The routes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse
from starlette.exceptions import HTTPException

import remask
from remask.engine import QueueFull
from remask.errors import RemaskError
from remask.server.asked import Refused
from remask.server.chunks import CHAT, COMPLETION
from remask.server.limits import Gate, failure
from remask.server.protocol import ChatBody, CompletionBody, ErrorBody
from remask.server.respond import named, respond
from remask.server.service import Service
from remask.trace.page import live_page

ERRORS: dict[int | str, dict[str, Any]] = {"4XX": {"model": ErrorBody}, "5XX": {"model": ErrorBody}}
ANSWERS: dict[int | str, dict[str, Any]] = {200: {"description": "The answer, or with stream a chunk an event.", "content": {"text/event-stream": {}}}, **ERRORS}


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
