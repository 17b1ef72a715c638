"""Responses and chats that are kept: told again, followed from any event on, cancelled, listed and forgotten.

GET, DELETE /v1/responses/{id}      GET, DELETE /v1/chat/completions/{id}
POST /v1/responses/{id}/cancel      GET /v1/responses/{id}/input_items
"""

import orjson
from starlette.requests import Request
from starlette.responses import Response

from aruntime.base.errors import InvalidRequest, NotFound
from aruntime.control.kept import RUNNING, Kept
from aruntime.http.context import Context
from aruntime.http.keeper import Keeper
from aruntime.http.recorded import stream
from aruntime.wire import stored_chat
from aruntime.wire.responses_answers import PREFIX
from aruntime.wire.responses_kept import ItemsQuery, ShowQuery, deleted, page, parse_query


async def show_response(request: Request) -> Response:
    """A stored response, or with `stream=true` its events. 404 there is none; 400 it was not streamed.

    Whoever sends Last-Event-ID, as browsers do when a stream breaks, wants the events beyond it.
    """
    query = _shown(request)
    keeper, kept = await _asked(request)
    return await _follow(keeper, kept, query.starting_after) if query.stream else _json(kept.answer)


async def show_chat(request: Request) -> Response:
    """A stored chat that has ended, or the events of a stored stream, as of a response. 404 there is none."""
    query = _shown(request)
    keeper, kept = await _asked(request, stored_chat.PREFIX, "completion_id")
    if query.stream:
        return await _follow(keeper, kept, query.starting_after)
    if kept.status != "completed":
        raise NotFound(f"this answer is {kept.status}: only its events can be told", param="completion_id")
    return _json(kept.answer)


async def delete_chat(request: Request) -> Response:
    """Forget a stored chat; one that is generated is ended."""
    return _json(stored_chat.deleted(await _forget(*await _asked(request, stored_chat.PREFIX, "completion_id"))))


async def delete_response(request: Request) -> Response:
    """Forget a stored response; one that is generated is ended."""
    return _json(deleted(await _forget(*await _asked(request))))


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


def _shown(request: Request) -> ShowQuery:
    pairs = list(request.query_params.multi_items())
    if (last := request.headers.get("last-event-id")) is not None:
        pairs = [("stream", "true"), ("starting_after", last), *pairs]
    return parse_query(pairs, ShowQuery)


async def _follow(keeper: Keeper, kept: Kept, after: int) -> Response:
    recorded = keeper.running(kept.tenant, kept.id) is not None or kept.status == RUNNING
    if not recorded and await keeper.run(lambda: keeper.store.last_event(kept.id)) < 0:
        raise InvalidRequest("stream: this answer was not streamed", param="stream")
    keeper.glance()
    return stream(keeper.follow(kept, after))


async def _forget(keeper: Keeper, kept: Kept) -> str:
    await keeper.run(lambda: keeper.store.forget(kept.tenant, kept.id))
    if (recording := keeper.running(kept.tenant, kept.id)) is not None:
        await recording.cancel()
    return kept.id


async def _asked(request: Request, prefix: str = PREFIX, name: str = "response_id") -> tuple[Keeper, Kept]:
    """The stored answer that a path names. NotFound: there is none, or it is somebody else's, or of another kind."""
    keeper, id_ = Context.of(request).keeper, request.path_params["id"]
    if keeper is None or not id_.startswith(prefix):
        raise NotFound("no such answer is kept", param=name)
    if (kept := await keeper.find(request.scope["state"]["tenant"].name, id_)) is None:
        raise NotFound("no such answer is kept", param=name)
    recording = keeper.running(kept.tenant, kept.id)
    return keeper, kept if recording is None else recording.kept()


def _json(body: bytes) -> Response:
    return Response(body, media_type="application/json")
