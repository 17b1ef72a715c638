"""An error's bytes on OpenAI paths: all four keys, always; and as the last event of a stream that has begun."""

import orjson

from aruntime.base.errors import ServingError


def error_body(error: ServingError) -> bytes:
    """The JSON body of an error answer."""
    return orjson.dumps(
        {"error": {"message": error.message, "type": error.type, "param": error.param, "code": error.code}}
    )


def error_event(error: ServingError) -> bytes:
    """The event that ends a stream whose status is spent; no [DONE] follows."""
    return b"data: " + error_body(error) + b"\n\n"
