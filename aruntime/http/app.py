"""The two applications of a front end: the public one, and the admin one, which has all of it and more.

/v1/chat/completions  /v1/completions     completions.py -> generation.py
/v1/models[/{id}]  /health/*              status.py
/metrics                                  admin only, metrics.py

edge.py -> auth.py -> a route; whatever is added here is closed to whoever brings no key.
"""

import time
from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.routing import Route
from starlette.types import ASGIApp

from aruntime.base.errors import ServingError
from aruntime.control.view import View
from aruntime.http import status
from aruntime.http.auth import Auth
from aruntime.http.completions import create_chat_completion, create_completion
from aruntime.http.context import Context
from aruntime.http.edge import Edge
from aruntime.http.encoder import Encoder
from aruntime.http.errors import answer
from aruntime.http.limits import HttpLimits

_PUBLIC = [
    Route("/v1/chat/completions", create_chat_completion, methods=["POST"]),
    Route("/v1/completions", create_completion, methods=["POST"]),
    Route("/v1/models", status.list_models, methods=["GET"]),
    Route("/v1/models/{model:path}", status.show_model, methods=["GET"]),
    Route("/health/live", status.live, methods=["GET"]),
    Route("/health/engine", status.engine, methods=["GET"]),
    Route("/health/ready", status.ready, methods=["GET"]),
    Route("/health/dependencies", status.dependencies, methods=["GET"]),
]
_ADMIN = [*_PUBLIC, Route("/metrics", status.metrics, methods=["GET"])]


def build_app(
    view: View,
    *,
    admin: bool = False,
    limits: HttpLimits | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> ASGIApp:
    """The ASGI application over `view`: the admin one, or the public one. Every route of it asks for a key."""
    handlers = dict.fromkeys((ServingError, HTTPException, ClientDisconnect, Exception), answer)
    app = Starlette(routes=_ADMIN if admin else _PUBLIC, exception_handlers=handlers)
    app.router.redirect_slashes = False
    limits = limits or HttpLimits()
    app.state.context = Context(view, limits, clock, Encoder(limits))
    return Edge(Auth(app, view.registry, admin=admin), clock, limits, count=lambda code: view.door.ledger.refused(code))
