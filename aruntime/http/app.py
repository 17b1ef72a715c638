"""The two applications of a front end: the public one, and the admin one, which has all of it and more.

/v1/chat/completions  /v1/completions     completions.py -> generation.py
/v1/models[/{id}]  /health/*              status.py
/v2/models/{m}/infer, generate[_stream]   infer.py -> generation.py
/v2 and what else it says of models       infer_models.py
/metrics                                  admin only, metrics.py
/v2/repository, logging, trace, *memory   admin only, infer_admin.py
/admin/*                                  admin only, admin.py

edge.py -> auth.py -> a route; whatever is added here is closed to whoever brings no key.
"""

import time
from collections.abc import Awaitable, Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from aruntime.base.errors import ServingError
from aruntime.control.commands import Commands
from aruntime.control.view import View
from aruntime.http import admin, infer, infer_admin, infer_models, status
from aruntime.http.auth import Auth
from aruntime.http.completions import create_chat_completion, create_completion
from aruntime.http.context import Context
from aruntime.http.edge import Edge
from aruntime.http.encoder import Encoder
from aruntime.http.errors import answer
from aruntime.http.limits import HttpLimits
from aruntime.http.mirror import Mirror

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


_PUBLIC = [
    Route("/v1/chat/completions", create_chat_completion, methods=["POST"]),
    Route("/v1/completions", create_completion, methods=["POST"]),
    Route("/v1/models", status.list_models, methods=["GET"]),
    Route("/v1/models/{model:path}", status.show_model, methods=["GET"]),
    Route("/health/live", status.live, methods=["GET"]),
    Route("/health/engine", status.engine, methods=["GET"]),
    Route("/health/ready", status.ready, methods=["GET"]),
    Route("/health/dependencies", status.dependencies, methods=["GET"]),
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
_ADMIN = [
    *_PUBLIC,
    Route("/metrics", status.metrics, methods=["GET"]),
    Route("/v2/repository/index", infer_admin.repository_index, methods=["POST"]),
    Route("/v2/repository/models/{model}/load", infer_admin.load_model, methods=["POST"]),
    Route("/v2/repository/models/{model}/unload", infer_admin.unload_model, methods=["POST"]),
    Route("/v2/logging", infer_admin.show_logging, methods=["GET"]),
    Route("/v2/logging", infer_admin.set_logging, methods=["POST"]),
    *(Route(path, infer_admin.show_tracing, methods=["GET"]) for path in _TRACING),
    *(Route(path, infer_admin.set_tracing, methods=["POST"]) for path in _TRACING),
    *_shared_memory("system"),
    *_shared_memory("cuda"),
    *admin.ROUTES,
]


def build_app(
    view: View,
    *,
    commands: Commands | None = None,
    limits: HttpLimits | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> ASGIApp:
    """The ASGI application over `view`: the public one; with `commands` the admin one. Every route asks for a key."""
    handlers = dict.fromkeys((ServingError, HTTPException, ClientDisconnect, Exception), answer)
    app = Starlette(routes=_PUBLIC if commands is None else _ADMIN, exception_handlers=handlers)
    app.router.redirect_slashes = False
    limits = limits or HttpLimits()
    app.state.context = Context(view, limits, clock, Encoder(limits), Mirror(clock), commands)
    auth = Auth(app, view.registry, admin=commands is not None)
    return Edge(auth, clock, limits, count=lambda code: view.door.ledger.refused(code))
