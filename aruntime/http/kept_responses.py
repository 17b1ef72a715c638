"""Responses that are kept: told again, followed from any event on, cancelled, listed and forgotten.

GET, DELETE /v1/responses/{id}      POST /v1/responses/{id}/cancel      GET /v1/responses/{id}/input_items
"""

import orjson
from starlette.requests import Request
from starlette.responses import Response

from aruntime.base.errors import InvalidRequest, NotFound
from aruntime.control.kept import RUNNING, Kept
from aruntime.http.context import Context
from aruntime.http.keeper import Keeper
from aruntime.http.responses import stream
from aruntime.wire.responses_kept import ItemsQuery, ShowQuery, deleted, page, parse_query


async def show_response(request: Request) -> Response:
    """A stored response, or with `stream=true` its events. 404 there is none; 400 it was not streamed.

    Whoever sends Last-Event-ID, as browsers do when a stream breaks, wants the events beyond it.
    """
    pairs = list(request.query_params.multi_items())
    if (last := request.headers.get("last-event-id")) is not None:
        pairs = [("stream", "true"), ("starting_after", last), *pairs]
    query = parse_query(pairs, ShowQuery)
    keeper, kept = await _asked(request)
    if not query.stream:
        return _json(kept.answer)
    recorded = keeper.running(kept.tenant, kept.id) is not None or kept.status == RUNNING
    if not recorded and await keeper.run(lambda: keeper.store.last_event(kept.id)) < 0:
        raise InvalidRequest("stream: this response was not streamed", param="stream")
    return stream(keeper.follow(kept, query.starting_after))


async def delete_response(request: Request) -> Response:
    """Forget a stored response; one that is generated is ended."""
    keeper, kept = await _asked(request)
    await keeper.run(lambda: keeper.store.forget(kept.tenant, kept.id))
    if (recording := keeper.running(kept.tenant, kept.id)) is not None:
        await recording.cancel()
    return _json(deleted(kept.id))


async def cancel_response(request: Request) -> Response:
    """End a response that is generated in the background; one that has ended stays as it is. 400 it is no such one."""
    keeper, kept = await _asked(request)
    if not orjson.loads(kept.answer)["background"]:
        raise InvalidRequest("response_id: only a response with background can be cancelled", param="response_id")
    if kept.status == RUNNING:
        kept = await keeper.end(kept)
    return _json(kept.answer)


async def list_input_items(request: Request) -> Response:
    """What a response goes on from, in pages."""
    query = parse_query(request.query_params.multi_items(), ItemsQuery)
    _, kept = await _asked(request)
    return _json(await Context.of(request).encoder.run(len(kept.items), lambda: page(kept.items, query)))


async def _asked(request: Request) -> tuple[Keeper, Kept]:
    """The stored response that a path names. NotFound: there is none, or it is somebody else's."""
    keeper, id_ = Context.of(request).keeper, request.path_params["id"]
    kept = await keeper.find(request.scope["state"]["tenant"].name, id_) if keeper is not None else None
    if keeper is None or kept is None:
        raise NotFound("no such response", param="response_id")
    recording = keeper.running(kept.tenant, kept.id)
    return keeper, kept if recording is None else recording.kept()


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
