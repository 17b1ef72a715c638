"""What /v2 says of the server and of its models: health, metadata, config, statistics.

The statistics are those that the shared tables count, over all front ends and replicas; what they do not count is 0.
"""

from collections.abc import Sequence
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

import aruntime
from aruntime.admission.route import Route
from aruntime.base.names import ModelRef
from aruntime.control.lives import READY
from aruntime.control.view import ServedVersion
from aruntime.http.context import Context
from aruntime.http.infer import model_ref
from aruntime.queue.columns import E2E, ENGINE_ROW, RESULT_CODES, Column
from aruntime.wire.control import TensorSpec
from aruntime.wire.infer_v2_models import config, metadata
from aruntime.wire.infer_v2_text import TEXT_INPUTS, TEXT_OUTPUTS

_EXTENSIONS = [
    "binary_tensor_data",
    "generate",
    "logging",
    "model_configuration",
    "model_repository",
    "parameters",
    "schedule_policy",
    "statistics",
]
_DURATIONS = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output", "cache_hit", "cache_miss")


async def server(request: Request) -> Response:
    """The server's name, version, and which extensions of the protocol it has."""
    return reply_json({"name": "aruntime", "version": aruntime.__version__, "extensions": _EXTENSIONS})


async def live(request: Request) -> Response:
    """200: this process answers."""
    return reply_json({"live": True})


async def ready(request: Request) -> Response:
    """200 when the models that must be ready are, 503 with the reasons when they are not."""
    health = Context.of(request).view.health()
    return reply_json({"ready": True}) if health.ready else reply_json({"error": "; ".join(health.reasons)}, 503)


async def model_metadata(request: Request) -> Response:
    """A model's inputs and outputs. 403 not this tenant's; 404 no such model; 503 not ready. So with all of a model."""
    served, ref = _served(request), model_ref(request)
    entries = Context.of(request).view.versions(ref.name, request.scope["state"]["tenant"])
    versions = [entry.version for entry in entries if entry.state in READY and ref.version in (None, entry.version)]
    return reply_json(metadata(served.name, versions, served.engine, *_tensors(served)))


async def model_ready(request: Request) -> Response:
    """200 when requests for the model are served now."""
    served = _served(request)
    return reply_json({"name": served.name, "ready": True})


async def model_config(request: Request) -> Response:
    """A model's configuration, in the words of NVIDIA's server."""
    served = _served(request)
    return reply_json(config(served.name, served.engine, *_tensors(served)))


async def model_statistics(request: Request) -> Response:
    """What was counted of the ready versions of one model, or of all that this tenant may call."""
    ref = model_ref(request) if "model" in request.path_params else None
    if ref is not None:
        _served(request)  # or it says why there is none
    view = Context.of(request).view
    names = {entry.name for entry in view.models(request.scope["state"]["tenant"])}
    routes: dict[tuple[str, str], list[Route]] = {}
    for labels, route in view.routes():
        if labels["model"] in names and _means(ref, labels):
            routes.setdefault((labels["model"], labels["version"]), []).append(route)
    return reply_json({"model_stats": [_counted(*key, of) for key, of in routes.items()]})


def reply_json(value: object, status: int = 200) -> Response:
    """A JSON answer."""
    return Response(orjson.dumps(value), status, media_type="application/json")


def _served(request: Request) -> ServedVersion:
    return Context.of(request).view.resolve(model_ref(request), request.scope["state"]["tenant"])


def _means(ref: ModelRef | None, labels: dict[str, str]) -> bool:
    """Whether `ref`, or none for all, means the version with these labels."""
    return ref is None or (
        ref.name == labels["model"] and (ref.version is None or str(ref.version) == labels["version"])
    )


def _tensors(served: ServedVersion) -> tuple[Sequence[TensorSpec], Sequence[TensorSpec]]:
    return (TEXT_INPUTS, TEXT_OUTPUTS) if served.engine == "decoder" else (served.inputs, served.outputs)


def _counted(name: str, version: str, routes: list[Route]) -> dict[str, Any]:
    results = {code: sum(_result(route, i) for route in routes) for i, code in enumerate(RESULT_CODES)}
    answered = results.pop("ok")
    durations = {duration: {"count": 0, "ns": 0} for duration in _DURATIONS}
    durations["success"] = {
        "count": answered,
        "ns": int(sum(E2E.totals(route.table)[1] for route in routes) * 1e9),
    }
    durations["fail"]["count"] = sum(results.values())
    return {
        "name": name,
        "version": version,
        "last_inference": 0,
        "inference_count": answered,
        "execution_count": sum(route.table.get(ENGINE_ROW, Column.STEPS) for route in routes),
        "inference_stats": durations,
        "batch_stats": [],
    }


def _result(route: Route, code: int) -> int:
    return route.table.sum(Column.RESULTS + code)
