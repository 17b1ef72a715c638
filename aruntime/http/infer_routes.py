"""The paths of the Open Inference Protocol: those of the public listener, and the admin listener's own."""

from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from aruntime.http import infer, infer_admin, infer_models

_Handler = Callable[[Request], Awaitable[Response]]


def _of_a_model(path: str, handler: _Handler, method: str) -> list[Route]:
    """The two paths of the Open Inference Protocol: of a model, and of one version of it."""
    prefixes = ("/v2/models/{model}", "/v2/models/{model}/versions/{version}")
    return [Route(prefix + path, handler, methods=[method]) for prefix in prefixes]


def _shared_memory(kind: str) -> list[Route]:
    prefix = f"/v2/{kind}sharedmemory"
    return [
        Route(f"{prefix}/status", infer_admin.list_shared_memory, methods=["GET"]),
        Route(f"{prefix}/region/{{region}}/status", infer_admin.show_shared_memory, methods=["GET"]),
        Route(f"{prefix}/region/{{region}}/register", infer_admin.register_shared_memory, methods=["POST"]),
        Route(f"{prefix}/region/{{region}}/unregister", infer_admin.unregister_shared_memory, methods=["POST"]),
        Route(f"{prefix}/unregister", infer_admin.unregister_shared_memory, methods=["POST"]),
    ]


PUBLIC = [
    Route("/v2", infer_models.server, methods=["GET"]),
    Route("/v2/health/live", infer_models.live, methods=["GET"]),
    Route("/v2/health/ready", infer_models.ready, methods=["GET"]),
    Route("/v2/models/stats", infer_models.model_statistics, methods=["GET"]),
    *_of_a_model("", infer_models.model_metadata, "GET"),
    *_of_a_model("/ready", infer_models.model_ready, "GET"),
    *_of_a_model("/config", infer_models.model_config, "GET"),
    *_of_a_model("/stats", infer_models.model_statistics, "GET"),
    *_of_a_model("/infer", infer.infer, "POST"),
    *_of_a_model("/generate", infer.generate, "POST"),
    *_of_a_model("/generate_stream", infer.generate_stream, "POST"),
]
_TRACING = ("/v2/trace/setting", "/v2/models/{model}/trace/setting")
ADMIN = [
    Route("/v2/repository/index", infer_admin.repository_index, methods=["POST"]),
    Route("/v2/repository/models/{model}/load", infer_admin.load_model, methods=["POST"]),
    Route("/v2/repository/models/{model}/unload", infer_admin.unload_model, methods=["POST"]),
    Route("/v2/logging", infer_admin.show_logging, methods=["GET"]),
    Route("/v2/logging", infer_admin.set_logging, methods=["POST"]),
    *(Route(path, infer_admin.show_tracing, methods=["GET"]) for path in _TRACING),
    *(Route(path, infer_admin.set_tracing, methods=["POST"]) for path in _TRACING),
    *_shared_memory("system"),
    *_shared_memory("cuda"),
]
