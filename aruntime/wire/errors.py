"""An error's bytes: on OpenAI paths all four keys, always; on the Open Inference Protocol's paths its text.

`error_event` and `error_event_v2` end a stream whose status is spent; no [DONE] follows.
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
