"""Reads what every endpoint reads of a request: the body within its limits, and the request headers of ours."""

import asyncio
import math

from starlette.requests import ClientDisconnect, Request

from aruntime.base.errors import InvalidRequest, RequestTimeout, RequestTooLarge, UnsupportedMediaType
from aruntime.http.limits import HttpLimits
from aruntime.queue.records import Priority

_PRIORITIES = {priority.name.lower(): priority for priority in Priority}


async def read_json(request: Request, limits: HttpLimits) -> bytes:
    """The body of a JSON request. 413 too large, 408 too slow, 415 something else than JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != "application/json":
        raise UnsupportedMediaType(f"want content-type application/json, got {kind[:80] or 'none'}")
    if int(_digits(request.headers.get("content-length"))) > limits.body_bytes_max:
        raise RequestTooLarge(f"a body has at most {limits.body_bytes_max} bytes")
    body = bytearray()
    try:
        async with asyncio.timeout(limits.body_s_max):
            async for chunk in request.stream():
                body += chunk
                if len(body) > limits.body_bytes_max:
                    raise RequestTooLarge(f"a body has at most {limits.body_bytes_max} bytes")
    except TimeoutError:
        raise RequestTimeout(f"the body did not arrive within {limits.body_s_max:g} s") from None
    except ClientDisconnect:
        raise RequestTimeout("the body did not arrive") from None
    return bytes(body)


def deadline_s(request: Request, arrived_s: float, limits: HttpLimits) -> float:
    """The moment of x-request-timeout-ms, counted from arrival; infinity without one."""
    text = request.headers.get("x-request-timeout-ms")
    if text is None:
        return math.inf
    most = int(limits.timeout_s_max * 1000)
    if not (text.isascii() and text.isdigit() and len(text) <= 12 and 1 <= int(text) <= most):
        raise InvalidRequest(f"x-request-timeout-ms: want an integer from 1 to {most}", param="x-request-timeout-ms")
    return arrived_s + int(text) / 1000


def priority(request: Request) -> Priority:
    """The class of x-request-priority; standard without one."""
    text = request.headers.get("x-request-priority", "standard")
    if text not in _PRIORITIES:
        raise InvalidRequest(f"x-request-priority: want one of {', '.join(_PRIORITIES)}", param="x-request-priority")
    return _PRIORITIES[text]


def _digits(text: str | None) -> str:
    return text if text is not None and text.isascii() and text.isdigit() and len(text) < 20 else "0"
