"""An error's bytes: on OpenAI paths all four keys, always; on the Open Inference Protocol's paths its text.

On Anthropic's paths they are the same four keys, in its envelope and with its types. `error_event` and its like end a
stream whose status is spent; no [DONE] follows.
"""

import orjson

from aruntime.base.errors import ServingError


def error_body(error: ServingError) -> bytes:
    """The JSON body of an error answer."""
    return orjson.dumps(
        {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}
    )


def error_event(error: ServingError) -> bytes:
    """The last event of a stream of OpenAI's."""
    return b"data: " + error_body(error) + b"\n\n"


def error_body_v2(error: ServingError) -> bytes:
    """The JSON body of an error answer under /v2; the text begins with the field at fault."""
    return orjson.dumps({"error": error.message})


def error_event_v2(error: ServingError) -> bytes:
    """The last event of a stream under /v2."""
    return b"data: " + error_body_v2(error) + b"\n\n"


# By status; what is not here is the client's fault below 500 and the server's from there on.
_ANTHROPIC_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    408: "timeout_error",
    413: "request_too_large",
    429: "rate_limit_error",
    503: "overloaded_error",
    504: "timeout_error",
}


def error_body_anthropic(error: ServingError, request_id: str) -> bytes:
    """The JSON body of an error answer of Anthropic's. `param` and `code` are ours; its clients read past them."""
    other = "invalid_request_error" if error.status < 500 else "api_error"
    kind = _ANTHROPIC_TYPES.get(error.status, other)
    told = {"type": kind, "message": error.message, "param": error.param, "code": error.code}
    return orjson.dumps({"type": "error", "error": told, "request_id": request_id})


def error_event_anthropic(error: ServingError, request_id: str) -> bytes:
    """The last event of a stream of Anthropic's."""
    return b"event: error\ndata: " + error_body_anthropic(error, request_id) + b"\n\n"
