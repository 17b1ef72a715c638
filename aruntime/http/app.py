"""The two applications of a front end: the public one, and the admin one, which has all of it and more.

/v1/chat/completions  /v1/completions     completions.py -> generation.py
/v1/messages[/count_tokens]               messages.py -> generation.py
/v1/responses[/input_tokens]              responses.py -> generation.py, through keeper.py if it is stored
/v1/{responses,chat/completions}/{id}     kept_responses.py
/v1/embeddings                            embeddings.py
/tokenize  /detokenize                    tokens.py
/v1/models[/{id}]  /health/*              status.py
/openapi.json                             status.py, wire/openapi.py
/v2/models/{m}/infer, generate[_stream]   infer.py -> generation.py
/v2 and what else it says of models       infer_models.py
/metrics                                  admin only, metrics.py
/v2/repository, logging, trace, *memory   admin only, infer_admin.py
/admin/*                                  admin only, admin.py

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
from aruntime.control.commands import Commands
from aruntime.control.view import View
from aruntime.http import admin, infer_routes, kept_responses, messages, responses, status, tokens
from aruntime.http.auth import Auth
from aruntime.http.completions import create_chat_completion, create_completion
from aruntime.http.context import Context
from aruntime.http.edge import Edge
from aruntime.http.embeddings import create_embedding
from aruntime.http.encoder import Encoder
from aruntime.http.errors import answer
from aruntime.http.keeper import Keeper
from aruntime.http.limits import HttpLimits
from aruntime.http.mirror import Mirror

_PUBLIC = [
    Route("/v1/chat/completions", create_chat_completion, methods=["POST"]),
    Route("/v1/chat/completions/{id}", kept_responses.show_chat, methods=["GET"]),
    Route("/v1/chat/completions/{id}", kept_responses.delete_chat, methods=["DELETE"]),
    Route("/v1/completions", create_completion, methods=["POST"]),
    Route("/v1/messages", messages.create_message, methods=["POST"]),
    Route("/v1/messages/count_tokens", messages.count_tokens, methods=["POST"]),
    Route("/v1/responses", responses.create_response, methods=["POST"]),
    Route("/v1/responses/input_tokens", responses.count_input_tokens, methods=["POST"]),
    Route("/v1/responses/{id}", kept_responses.show_response, methods=["GET"]),
    Route("/v1/responses/{id}", kept_responses.delete_response, methods=["DELETE"]),
    Route("/v1/responses/{id}/cancel", kept_responses.cancel_response, methods=["POST"]),
    Route("/v1/responses/{id}/input_items", kept_responses.list_input_items, methods=["GET"]),
    Route("/v1/embeddings", create_embedding, methods=["POST"]),
    Route("/tokenize", tokens.tokenize, methods=["POST"]),
    Route("/detokenize", tokens.detokenize, methods=["POST"]),
    Route("/v1/models", status.list_models, methods=["GET"]),
    Route("/v1/models/{model:path}", status.show_model, methods=["GET"]),
    Route("/openapi.json", status.openapi, methods=["GET"]),
    Route("/health/live", status.live, methods=["GET"]),
    Route("/health/engine", status.engine, methods=["GET"]),
    Route("/health/ready", status.ready, methods=["GET"]),
    Route("/health/dependencies", status.dependencies, methods=["GET"]),
    *infer_routes.PUBLIC,
]
_ADMIN = [
    *_PUBLIC,
    Route("/metrics", status.metrics, methods=["GET"]),
    *infer_routes.ADMIN,
    *admin.ROUTES,
]


def build_app(
    view: View,
    *,
    commands: Commands | None = None,
    limits: HttpLimits | None = None,
    keeper: Keeper | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> ASGIApp:
    """The ASGI application over `view`: the public one; with `commands` the admin one. Every route asks for a key."""
    handlers = dict.fromkeys((ServingError, HTTPException, ClientDisconnect, Exception), answer)
    app = Starlette(routes=_PUBLIC if commands is None else _ADMIN, exception_handlers=handlers)
    app.router.redirect_slashes = False
    limits = limits or HttpLimits()
    app.state.context = Context(view, limits, clock, Encoder(limits), Mirror(clock), commands, keeper)
    auth = Auth(app, view.registry, admin=commands is not None)
    return Edge(auth, clock, limits, count=lambda code: view.door.ledger.refused(code))
