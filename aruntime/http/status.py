"""What the server says of itself: models, health, metrics, what it takes."""

from dataclasses import asdict

import orjson
from starlette.requests import Request
from starlette.responses import Response

from aruntime.base.names import ModelRef
from aruntime.control.view import ModelEntry
from aruntime.http.context import Context
from aruntime.http.metrics import render
from aruntime.wire.openapi import document


async def list_models(request: Request) -> Response:
    """Every model that is ready and that this tenant may call, in OpenAI's shape."""
    tenant = request.scope["state"]["tenant"]
    ready = {entry.name: entry for entry in Context.of(request).view.models(tenant) if entry.ready}
    return _json({"object": "list", "data": [_model(entry) for entry in ready.values()]})


async def show_model(request: Request) -> Response:
    """One model; 403 when it is not this tenant's, 404 when there is none, 503 when it is not ready."""
    ref = ModelRef.parse(request.path_params["model"])
    served = Context.of(request).view.resolve(ref, request.scope["state"]["tenant"])
    return _json(_model(ModelEntry(served.name, served.version, served.created_s, ready=True)))


async def openapi(_request: Request) -> Response:
    """The language endpoints as an OpenAPI document."""
    return Response(document(), media_type="application/json")


async def live(request: Request) -> Response:
    """200: this process answers."""
    return _json({"live": True})


async def engine(request: Request) -> Response:
    """200 when every engine makes progress, 503 with the reasons when one does not."""
    engines = Context.of(request).view.health().engines
    ok = bool(engines) and all(engine.ok for engine in engines)
    return _json({"ok": ok, "engines": [asdict(engine) for engine in engines]}, 200 if ok else 503)


async def ready(request: Request) -> Response:
    """200 when the models that must be ready are, 503 with the reasons when they are not."""
    health = Context.of(request).view.health()
    return _json({"ready": health.ready, "reasons": health.reasons}, 200 if health.ready else 503)


async def dependencies(request: Request) -> Response:
    """200 when everything the server leans on is there, 503 when something is not."""
    found = Context.of(request).view.health().dependencies
    ok = all(state == "ok" for state in found.values())
    return _json({"ok": ok, "dependencies": found}, 200 if ok else 503)


async def metrics(request: Request) -> Response:
    """Prometheus text."""
    return Response(render(Context.of(request).view), media_type="text/plain; version=0.0.4; charset=utf-8")


def _model(entry: ModelEntry) -> dict[str, object]:
    return {"id": entry.name, "object": "model", "created": entry.created_s, "owned_by": "aruntime"}


def _json(value: object, status: int = 200) -> Response:
    return Response(orjson.dumps(value), status, media_type="application/json")
