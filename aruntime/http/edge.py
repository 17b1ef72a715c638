"""The outermost layer, in pure ASGI: an arrival time and a request id for every request, bounded headers, and one Host.

`x-request-id` is kept when it is well formed, else made, and stands in every answer, in those to Anthropic's clients as
`request-id` too, which is what they look for. A request without exactly one Host is refused (a lying Host has misled
authentication in other servers); routing looks at `scope["path"]` only.
"""

import asyncio
import contextlib
import re
import uuid
from collections.abc import Callable

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from aruntime.admission.tenants import NOBODY
from aruntime.base.errors import InvalidRequest
from aruntime.base.names import is_request_id
from aruntime.http.errors import answer, is_anthropic
from aruntime.http.limits import HttpLimits

# RFC 3986 without user information: a name or an IPv4 address, or an IPv6 address in brackets; and a port.
_HOST = re.compile(rb"(?:[A-Za-z0-9._~%!$&'()*+,;=-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::[0-9]{0,5})?")

# Answers to who sends too slowly, or too much.
_HEARD_ENOUGH = (408, 413)


class Edge:
    """Wraps the application. There are no websockets: one is closed unopened.

    `clock` is the monotonic one; `count(code)` is told of an error, unless whoever knows the request better counts it.
    """

    def __init__(
        self,
        app: ASGIApp,
        clock: Callable[[], float],
        limits: HttpLimits,
        count: Callable[[str], None] = lambda _code: None,
    ) -> None:
        self._app = app
        self._count = count
        self._clock = clock
        self._limits = limits

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close"})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id, arrived_s = _request_id(scope), self._clock()
        ours = {"arrived_s": arrived_s, "request_id": request_id, "tenant": NOBODY, "count": self._count}
        scope["state"] = {**scope.get("state", {}), **ours}
        marks = [(name, request_id.encode()) for name in _id_headers(scope)]
        body, started, lingers = _Body(receive), False, scope["http_version"] == "1.1"

        async def send_with_id(message: Message) -> None:
            nonlocal started, lingers
            if message["type"] == "http.response.start":
                started = True
                lingers &= message["status"] not in _HEARD_ENOUGH
                parting = [] if lingers or body.ended or scope["http_version"] == "2" else [(b"connection", b"close")]
                message["headers"] = [*message.get("headers", []), *marks, *parting]
            elif lingers and not body.ended and not message.get("more_body", False):
                await send({**message, "more_body": True})
                left_s = arrived_s + self._limits.body_s_max - self._clock()
                await body.discard(self._limits.body_bytes_max, left_s)
                message = {"type": "http.response.body", "body": b""}
            await send(message)

        try:
            _check_headers(scope, self._limits)
            _check_host(scope)
            await self._app(scope, body.receive, send_with_id)
        except Exception as error:
            if not started:
                response = await answer(Request(scope), error)
                await response(scope, body.receive, send_with_id)


class _Body:
    """A request's body on its way in: how much has come, and whether that was all."""

    def __init__(self, receive: Receive) -> None:
        self.ended = False
        self._receive = receive
        self._bytes = 0

    async def receive(self) -> Message:
        message = await self._receive()
        self._bytes += len(message.get("body", b""))
        self.ended |= not message.get("more_body", False)
        return message

    async def discard(self, bytes_max: int, timeout_s: float) -> None:
        """Let the rest pass, after an answer that did not wait for it.

        A connection of HTTP/1.1 would be closed, and whoever is still sending has a reset in place of the answer. Over
        HTTP/2 the connection does this by itself, and goes on (aruntime/h2).
        """
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not self.ended and self._bytes <= bytes_max:
                    await self.receive()


def _request_id(scope: Scope) -> str:
    given = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-request-id"]
    return given[0] if len(given) == 1 and is_request_id(given[0]) else uuid.uuid4().hex


def _id_headers(scope: Scope) -> tuple[bytes, ...]:
    return (b"x-request-id", b"request-id") if is_anthropic(scope["path"]) else (b"x-request-id",)


def _check_headers(scope: Scope, limits: HttpLimits) -> None:
    headers = scope["headers"]
    if len(headers) > limits.headers_max:
        raise InvalidRequest(f"{len(headers)} headers; at most {limits.headers_max} are read")
    sizes = (len(name) + len(value) for name, value in headers)
    if len(scope.get("raw_path") or b"") + len(scope["query_string"]) + sum(sizes) > limits.header_bytes_max:
        raise InvalidRequest(f"the path and the headers have more than {limits.header_bytes_max} bytes")


def _check_host(scope: Scope) -> None:
    hosts = [value for name, value in scope["headers"] if name == b"host"]
    if len(hosts) != 1:
        raise InvalidRequest(f"want exactly one Host header, got {len(hosts)}", param="host")
    if _HOST.fullmatch(hosts[0]) is None:
        raise InvalidRequest("the Host header is not a host and a port", param="host")
