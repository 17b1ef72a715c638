"""Whatever a route raises becomes an answer of the error table. What a bug says stays in the log."""

import math

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from aruntime.base import log
from aruntime.base.errors import MethodNotAllowed, ModelError, NotFound, ServingError
from aruntime.wire.errors import error_body


async def answer(request: Request, error: Exception) -> Response:
    """The answer to a request that ended with `error`, as Starlette's exception handlers are called."""
    refusal = _as_serving_error(error)
    request_id = request.scope["state"]["request_id"]
    if refusal.status >= 500:
        log.warning("request.failed", request=request_id, code=refusal.code, cause=refusal.message)
    if refusal is not error and refusal.status == 500:
        log.error("request.bug", request=request_id, error=repr(error))
    headers = {}
    if refusal.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(refusal.retry_after_s)))
    if isinstance(refusal, MethodNotAllowed):
        headers["allow"] = refusal.allow
    return Response(error_body(refusal), refusal.status, headers, media_type="application/json")


def _as_serving_error(error: Exception) -> ServingError:
    if isinstance(error, ServingError):
        return error
    if isinstance(error, HTTPException) and error.status_code == 404:
        return NotFound("no such path")
    if isinstance(error, HTTPException) and error.status_code == 405:
        return MethodNotAllowed("this path does not take this method", allow=(error.headers or {}).get("Allow", ""))
    return ModelError("the server failed on this request")
