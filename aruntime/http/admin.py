"""/admin/*: what operators see and do, on the admin listener only. Each is an action that the supervisor does.

GET  /admin/models[/{model}]                      lives, labels, rollouts, memory
POST /admin/models/{model}/load|unload|release    {"version": N}, where it may be left out
PUT  /admin/models/{model}/labels/{label}         {"version": N}          DELETE: forget it
POST /admin/models/{model}/rollout                {"version": N}: begin
POST /admin/models/{model}/rollout/{to}           pause, resume, promote, roll-back
GET  /admin/front-ends                            their processes, and how far the last restart is
POST /admin/front-ends/restart                    begin to replace them one by one
GET  /admin/audit?limit=N&before=ID               who did what

A load is answered when the version is ready, an unload when it is gone; a client that leaves meanwhile stops neither.
"""

from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aruntime.base.errors import InvalidRequest, UnsupportedMediaType
from aruntime.http.context import Context
from aruntime.http.requests import read_body
from aruntime.wire.actions import decode_action


async def show(request: Request) -> Response:
    """Every model, or one."""
    return await _act(request, "show")


async def change(request: Request) -> Response:
    """What the last part of the path says, of the version that the body names."""
    return await _act(request, str(request.scope["path"]).rpartition("/")[2], await _fields(request))


async def set_label(request: Request) -> Response:
    """Move a label."""
    return await _act(request, "set-label", await _fields(request))


async def drop_label(request: Request) -> Response:
    """Forget a label."""
    return await _act(request, "drop-label")


async def begin_rollout(request: Request) -> Response:
    """Begin to replace the stable version."""
    return await _act(request, "begin-rollout", await _fields(request))


async def steer_rollout(request: Request) -> Response:
    """Pause, resume, promote or roll back."""
    return await _act(request, "steer-rollout")


async def audit(request: Request) -> Response:
    """The audit trail, the newest first."""
    return await _act(request, "audit", {name: _integer(name, text) for name, text in request.query_params.items()})


async def front_ends(request: Request) -> Response:
    """The front ends and their last restart."""
    return await _act(request, "front-ends")


async def restart_front_ends(request: Request) -> Response:
    """Begin to replace them."""
    return await _act(request, "restart-front-ends", await _fields(request))


ROUTES = [
    Route("/admin/models", show, methods=["GET"]),
    Route("/admin/models/{model}", show, methods=["GET"]),
    Route("/admin/models/{model}/load", change, methods=["POST"]),
    Route("/admin/models/{model}/unload", change, methods=["POST"]),
    Route("/admin/models/{model}/release", change, methods=["POST"]),
    Route("/admin/models/{model}/labels/{label}", set_label, methods=["PUT"]),
    Route("/admin/models/{model}/labels/{label}", drop_label, methods=["DELETE"]),
    Route("/admin/models/{model}/rollout", begin_rollout, methods=["POST"]),
    Route("/admin/models/{model}/rollout/{to}", steer_rollout, methods=["POST"]),
    Route("/admin/front-ends", front_ends, methods=["GET"]),
    Route("/admin/front-ends/restart", restart_front_ends, methods=["POST"]),
    Route("/admin/audit", audit, methods=["GET"]),
]


async def _act(request: Request, kind: str, fields: dict[str, Any] | None = None) -> Response:
    said = {**request.path_params, "kind": kind}
    for name in fields or {}:
        if name in said:
            raise InvalidRequest(f"{name}: the path says it", param=name)
    action = decode_action(orjson.dumps({**(fields or {}), **said}))
    return Response(orjson.dumps(await Context.of(request).act(action, request)), media_type="application/json")


async def _fields(request: Request) -> dict[str, Any]:
    """The object in the body; no body at all is an empty one. 413 too large, 408 too slow, 415 not said to be JSON."""
    body = await read_body(request, Context.of(request).limits)
    if not body:
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType("want content-type: application/json")
    try:
        fields = orjson.loads(body)
    except orjson.JSONDecodeError:
        raise InvalidRequest("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise InvalidRequest("the body is not an object")
    return fields


def _integer(name: str, text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= 18):
        raise InvalidRequest(f"{name}: want an integer", param=name)
    return int(text)
