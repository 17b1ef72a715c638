"""Whatever a route raises becomes an answer of the error table. What a bug says stays in the log."""

import math

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from aruntime.base import log
from aruntime.base.errors import InvalidApiKey, MethodNotAllowed, ModelError, NotFound, ServingError
from aruntime.wire.errors import error_body, error_body_anthropic, error_body_v2


class Silence(Response):
    """What a client is sent that has left: some servers never return from a send to nobody."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        return


async def answer(request: Request, error: Exception) -> Response:
    """The answer to a request that ended with `error`."""
    if isinstance(error, ClientDisconnect):
        return Silence()
    state = request.scope["state"]
    refusal = as_refusal(error, state["request_id"])
    state["count"](refusal.code)
    headers = {}
    if refusal.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(refusal.retry_after_s)))
    if isinstance(refusal, InvalidApiKey):
        headers["www-authenticate"] = "Bearer"
    if isinstance(refusal, MethodNotAllowed):
        headers["allow"] = refusal.allow
    body = _body(refusal, request.scope["path"], state["request_id"])
    return Response(body, refusal.status, headers, media_type="application/json")


def is_anthropic(path: str) -> bool:
    """Whether what is asked for is Anthropic's, and is answered in its forms."""
    return path == "/v1/messages" or path.startswith("/v1/messages/")


def _body(refusal: ServingError, path: str, request_id: str) -> bytes:
    """In the form of whose path it is."""
    if is_anthropic(path):
        return error_body_anthropic(refusal, request_id)
    return error_body_v2(refusal) if path == "/v2" or path.startswith("/v2/") else error_body(refusal)


def as_refusal(error: Exception, request_id: str) -> ServingError:
    """What a client is told of `error`. The server's faults go to the log, without the request's words."""
    if isinstance(error, ServingError):
        if error.status >= 500:
            log.warning("request.failed", request=request_id, code=error.code, cause=error.message)
        return error
    if isinstance(error, HTTPException) and error.status_code == 404:
        return NotFound("no such path")
    if isinstance(error, HTTPException) and error.status_code == 405:
        return MethodNotAllowed("this path does not take this method", allow=(error.headers or {}).get("Allow", ""))
    log.error("request.bug", request=request_id, error=type(error).__name__, at=_place(error))
    return ModelError("the server failed on this request")


def _place(error: Exception) -> str:
    """The innermost line of code, as file:line. The message may hold what the client wrote; it is not used."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return f"{trace.tb_frame.f_code.co_filename.rpartition('/')[2]}:{trace.tb_lineno}" if trace is not None else ""
