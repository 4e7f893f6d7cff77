"""What stands before the routes: the key, the size of a body, and the time that a client may take to send or to read."""

from __future__ import annotations

import asyncio
import hmac
import time
from collections.abc import Awaitable, Callable, MutableMapping
from dataclasses import dataclass
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse

from remask.server.metrics import Metrics

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
OPEN = ("/", "/health", "/docs", "/openapi.json")
"""Paths that need no key: they tell nothing of anybody."""


@dataclass(frozen=True)
class Limits:
    """api_keys: none lets everybody in.  most_bytes: of a body.  patience: seconds for sending a body, and for taking one chunk."""

    api_keys: tuple[str, ...] = ()
    most_bytes: int = 1 << 20
    patience: float = 60.0

    def client(self, request: Request) -> str:
        """Who takes turns with others: whoever has this key, if there are several, else this address."""
        if len(self.api_keys) > 1:
            return request.headers.get("authorization", "")
        return "" if request.client is None else request.client.host

    def lets_in(self, authorization: bytes) -> bool:
        """Whether this header carries one of the keys, found out in a time that tells nothing of them."""
        fits = [hmac.compare_digest(authorization, f"Bearer {key}".encode()) for key in self.api_keys]
        return not fits or any(fits)


class Unread(OSError):
    """A client took no chunk for too long."""


class Gate:
    """ASGI middleware: refuses at the door, and counts what leaves."""

    def __init__(self, app: Any, *, limits: Limits, metrics: Metrics, routes: frozenset[str]) -> None:
        self.app, self.limits, self.metrics, self.routes = app, limits, metrics, routes

    async def __call__(self, scope: MutableMapping[str, Any], receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        headers = {name.lower(): value for name, value in scope["headers"]}
        route, began, status = scope["path"] if scope["path"] in self.routes else "other", time.monotonic(), 499

        async def counted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            try:
                async with asyncio.timeout(self.limits.patience):
                    await send(message)
            except TimeoutError:
                raise Unread("the client does not read") from None

        try:
            refusal = self.refusal(scope["path"], headers)
            if refusal is not None:
                await refusal(scope, receive, counted)
            else:
                await self.app(scope, self.measured(receive), counted)
        except Unread:  # the server closes the connection of an answer that was not finished
            status = 499
        finally:
            self.metrics.requests.labels(route, str(status)).inc()
            self.metrics.seconds.labels(route).observe(time.monotonic() - began)

    def refusal(self, path: str, headers: dict[bytes, bytes]) -> JSONResponse | None:
        """The answer to a client without the key, or with a body that is too long by its own account."""
        if path not in OPEN and not self.limits.lets_in(headers.get(b"authorization", b"")):
            return failure(401, "the API key is missing or wrong; send it as Authorization: Bearer KEY", code="invalid_api_key")
        length = headers.get(b"content-length", b"0")
        if length.isdigit() and int(length[:20]) > self.limits.most_bytes:
            return failure(413, self.too_long())
        return None

    def measured(self, receive: Receive) -> Receive:
        """The body, up to the limit and in time; what comes behind it (the disconnect) may take as long as it likes."""
        seen, whole = 0, False

        async def next_message() -> Message:
            nonlocal seen, whole
            if whole:
                return await receive()
            try:
                async with asyncio.timeout(self.limits.patience):
                    message = await receive()
            except TimeoutError:
                raise HTTPException(408, f"the body did not arrive within {self.limits.patience:g} s; send it faster") from None
            seen += len(message.get("body", b""))
            whole = not message.get("more_body", False)
            if seen > self.limits.most_bytes:
                raise HTTPException(413, self.too_long())
            return message

        return next_message

    def too_long(self) -> str:
        return f"the body is longer than {self.limits.most_bytes} bytes; shorten it"


def failure(status: int, message: str, *, param: str | None = None, code: str | None = None) -> JSONResponse:
    """An error in OpenAI's shape."""
    return JSONResponse(error_body(status, message, param=param, code=code), status, headers={"Retry-After": "1"} if status in (429, 503) else None)


def error_body(status: int, message: str, *, param: str | None = None, code: str | None = None) -> dict[str, Any]:
    """The object of an error. Text of a client comes back printable: half a surrogate pair is no UTF-8."""
    kind = {401: "authentication_error", 404: "not_found_error", 429: "rate_limit_error"}.get(status, "invalid_request_error" if status < 500 else "server_error")
    text = message.encode("utf-8", "backslashreplace").decode()
    return {"error": {"message": text, "type": kind, "param": param, "code": code}}
