"""Reads what every endpoint reads of a request: the body within its limits, and the request headers of ours."""

import asyncio
import math
from array import array
from collections.abc import Coroutine
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.types import Receive

from aruntime.admission.ask import Ask
from aruntime.admission.tenants import Tenant
from aruntime.base.errors import InvalidRequest, RequestTimeout, RequestTooLarge, UnsupportedMediaType
from aruntime.base.names import is_request_id
from aruntime.control.view import Caller
from aruntime.http.limits import HttpLimits
from aruntime.queue.records import Priority
from aruntime.wire.infer_v2 import Parameters

# The protocol's levels, 1 the highest; what is below the lowest is the lowest.
_LEVELS = (Priority.INTERACTIVE, Priority.STANDARD, Priority.BATCH)
_PRIORITIES = {priority.name.lower(): priority for priority in Priority}


@dataclass(frozen=True, slots=True)
class Terms:
    """What a request says beside its body. Moments are of the monotonic clock; an infinite deadline is none."""

    request_id: str
    arrived_s: float
    deadline_s: float
    priority: Priority
    tenant: Tenant
    session: str = ""
    mirrored: bool = False  # a copy: it costs nobody anything

    @property
    def caller(self) -> Caller:
        """Whom the model is chosen for."""
        return Caller(self.tenant, self.session or self.request_id, self.deadline_s)

    def ask(self, prompts: list["array[int]"], max_tokens: int, **more: Any) -> Ask:
        """An ask on these terms; `more` is what it says besides."""
        return Ask(
            request_id=self.request_id,
            prompts=prompts,
            max_tokens=max_tokens,
            arrived_s=self.arrived_s,
            deadline_s=self.deadline_s,
            priority=self.priority,
            tenant=self.tenant,
            mirrored=self.mirrored,
            **more,
        )


def read_terms(request: Request, limits: HttpLimits) -> Terms:
    """The terms, from our headers. InvalidRequest names the header that is wrong."""
    state = request.scope["state"]
    arrived_s: float = state["arrived_s"]
    deadline_s = arrived_s + _timeout_s(request, limits)
    return Terms(state["request_id"], arrived_s, deadline_s, _priority(request), state["tenant"], _session(request))


def with_parameters(terms: Terms, parameters: Parameters, limits: HttpLimits) -> Terms:
    """The terms, with what a request's parameters say too: the nearer deadline, and their priority if they have one."""
    if parameters.timeout > limits.timeout_s_max * 1e6:
        text = f"parameters.timeout: want at most {int(limits.timeout_s_max * 1e6)} us"
        raise InvalidRequest(text, param="parameters.timeout")
    timeout_s = parameters.timeout / 1e6 if parameters.timeout else math.inf
    priority = _LEVELS[min(parameters.priority, len(_LEVELS)) - 1] if parameters.priority else terms.priority
    deadline_s = min(terms.deadline_s, terms.arrived_s + timeout_s)
    return replace(terms, deadline_s=deadline_s, priority=priority)


async def read_json(request: Request, limits: HttpLimits) -> bytes:
    """The body of a JSON request. 413 too large, 408 too slow, 415 something else than JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMediaType("want content-type: application/json")
    return await read_body(request, limits)


async def read_body(request: Request, limits: HttpLimits) -> bytes:
    """The body, whatever it is. 413 too large, 408 too slow."""
    length = request.headers.get("content-length", "")
    if length.isdecimal() and int(length[:20]) > limits.body_bytes_max:
        raise _too_large(limits)
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_s_max):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.body_bytes_max:
                    raise _too_large(limits)
    except TimeoutError:
        raise RequestTimeout(f"the body did not arrive within {limits.body_s_max:g} s") from None
    return bytes(body)


async def unless_gone(request: Request, wait: Coroutine[Any, Any, None]) -> None:
    """`wait`, while the client is there. ClientDisconnect when it leaves; the body must have been read."""
    waiting, gone = asyncio.ensure_future(wait), asyncio.ensure_future(disconnect(request.receive))
    try:
        await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
        if not waiting.done():
            raise ClientDisconnect
        waiting.result()
    finally:
        waiting.cancel()
        gone.cancel()
        await asyncio.gather(waiting, gone, return_exceptions=True)


async def disconnect(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        continue


def _too_large(limits: HttpLimits) -> RequestTooLarge:
    return RequestTooLarge(f"a body has at most {limits.body_bytes_max} bytes")


def _timeout_s(request: Request, limits: HttpLimits) -> float:
    """x-request-timeout-ms, counted from arrival; infinity without one."""
    text = request.headers.get("x-request-timeout-ms")
    if text is None:
        return math.inf
    most = int(limits.timeout_s_max * 1000)
    if not (text.isascii() and text.isdecimal() and len(text) <= 12 and 1 <= int(text) <= most):
        raise InvalidRequest(f"x-request-timeout-ms: want an integer from 1 to {most}", param="x-request-timeout-ms")
    return int(text) / 1000


def _session(request: Request) -> str:
    """x-session-id, which keeps a client's requests together; empty without one."""
    text = request.headers.get("x-session-id", "")
    if text and not is_request_id(text):
        raise InvalidRequest("x-session-id: want 1 to 128 of A-Z a-z 0-9 . _ -", param="x-session-id")
    return text


def _priority(request: Request) -> Priority:
    """The class of x-request-priority; standard without one."""
    text = request.headers.get("x-request-priority", "standard")
    if text not in _PRIORITIES:
        raise InvalidRequest(f"x-request-priority: want one of {', '.join(_PRIORITIES)}", param="x-request-priority")
    return _PRIORITIES[text]
