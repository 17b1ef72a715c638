"""/v1/responses, as clients of OpenAI's Responses API ask: answers that may be kept, followed and gone on from.

POST /v1/responses                     read -> parse -> the shared steps; what is streamed and stored is a recording
GET, DELETE /v1/responses/{id}         the answer; with stream=true its events beyond starting_after or Last-Event-ID
POST /v1/responses/{id}/cancel         GET /v1/responses/{id}/input_items
"""

import time
from typing import Any

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from aruntime.base.errors import InvalidRequest, NotFound
from aruntime.base.names import ModelRef
from aruntime.control.kept import RUNNING, Kept
from aruntime.control.view import ServedVersion
from aruntime.http.context import Context
from aruntime.http.generation import Generation
from aruntime.http.keeper import Keeper, Recording
from aruntime.http.meter import Count
from aruntime.http.questions import Question, answer_text, meet, read
from aruntime.http.requests import Terms, read_terms, unless_gone
from aruntime.wire.responses import ITEMS_PAGE, ResponseBody, parse_response, unstored
from aruntime.wire.responses_answers import ResponseAnswer

_NUMBER_MAX = 1 << 31


async def create_response(request: Request) -> Response:
    """Answer one request for a response, streamed or whole, now or in the background.

    Errors as in `create_completion`; 400 a previous response that is not there, or has not ended.
    """
    context = Context.of(request)
    terms = read_terms(request, context.limits)
    body, size = await read(request, context, lambda raw: (parse_response(raw), len(raw)))
    keeper = context.keeper
    if keeper is None and (refused := unstored(body)) is not None:
        raise refused
    before = await _before(keeper, terms.tenant.name, body)
    items, own = [orjson.loads(one) for one in before], body.items
    context_items = [item for part in items for item in part] + own
    size += sum(map(len, before))
    conversation = await context.encoder.run(size, lambda: body.conversation(context_items))
    recorded = bool(body.background or body.stream)
    stored = keeper is not None and body.store is not False
    question = Question(
        fields=body.sampling,
        field="input",
        conversation=conversation,
        max_tokens=body.max_output_tokens,
        stream=recorded if stored else bool(body.stream),
        logprobs=body.alternatives,
        constraint=body.constraint,
    )

    async def reply(served: ServedVersion, count: Count, terms: Terms) -> Response:
        answer = ResponseAnswer(echo=body.echo, store=stored, clock=time.time)
        generation = await answer_text(context, served, terms, question, count, lambda _served, _ask: answer)
        if keeper is None or not stored or terms.mirrored:
            return generation
        told = orjson.dumps(context_items)
        if not recorded:
            return _KeptWhole(keeper, terms.tenant.name, answer, told, generation)
        recording = Recording(keeper, terms.tenant.name, answer, told, terms.request_id)
        return await _record(request, recording, generation, body)

    return await meet(request, context, terms, ModelRef.parse(body.model), reply)


async def show_response(request: Request) -> Response:
    """A stored response, or with `stream=true` its events. 404 there is none; 400 it was not streamed."""
    keeper, kept = await _asked(request)
    after = _after(request)
    if after is None:
        return Response(kept.answer, media_type="application/json")
    recorded = keeper.running(kept.tenant, kept.id) is not None or kept.status == RUNNING
    if not recorded and await keeper.run(lambda: keeper.store.last_event(kept.id)) < 0:
        raise InvalidRequest("stream: this response was not streamed", param="stream")
    return _stream(keeper.follow(kept, after))


async def delete_response(request: Request) -> Response:
    """Forget a stored response; one that is generated is ended."""
    keeper, kept = await _asked(request)
    await keeper.run(lambda: keeper.store.forget(kept.tenant, kept.id))
    if (recording := keeper.running(kept.tenant, kept.id)) is not None:
        await recording.cancel()
    told = {"id": kept.id, "object": "response", "deleted": True}
    return Response(orjson.dumps(told), media_type="application/json")


async def cancel_response(request: Request) -> Response:
    """End a response that is generated in the background; one that has ended stays as it is. 400 it is no such one."""
    keeper, kept = await _asked(request)
    if not orjson.loads(kept.answer)["background"]:
        raise InvalidRequest("response_id: only a response with background can be cancelled", param="response_id")
    if kept.status == RUNNING:
        kept = await keeper.end(kept)
    return Response(kept.answer, media_type="application/json")


async def list_input_items(request: Request) -> Response:
    """What a response answers, in pages: `limit` (1 to 100; 20), `order` (desc or asc), `after` an item's id."""
    _, kept = await _asked(request)
    limit, order = request.query_params.get("limit", "20"), request.query_params.get("order", "desc")
    if not (limit.isascii() and limit.isdecimal() and len(limit) <= 3 and 1 <= int(limit) <= ITEMS_PAGE):
        raise InvalidRequest(f"limit: want 1 to {ITEMS_PAGE}", param="limit")
    if order not in ("asc", "desc"):
        raise InvalidRequest("order: want asc or desc", param="order")
    items = orjson.loads(kept.items)
    if order == "desc":
        items.reverse()
    if (after := request.query_params.get("after")) is not None:
        place = next((i for i, item in enumerate(items) if item["id"] == after), None)
        if place is None:
            raise InvalidRequest("after: no item has this id", param="after")
        items = items[place + 1 :]
    page = items[: int(limit)]
    told = {"object": "list", "data": page, "has_more": len(items) > len(page)}
    ends = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
    return Response(orjson.dumps(told | ends), media_type="application/json")


class _KeptWhole(Response):
    """A whole answer that is kept before it is told. While nobody knows its id it ends with its client."""

    def __init__(
        self, keeper: Keeper, tenant: str, answer: ResponseAnswer, items: bytes, generation: Generation
    ) -> None:
        self.background = None
        self._keeper, self._tenant, self._answer, self._items = keeper, tenant, answer, items
        self._generation = generation

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        held: list[Message] = []

        async def keep(message: Message) -> None:
            held.append(message)
            if message["type"] == "http.response.body":
                store = self._keeper.store
                row = (self._answer.id, self._tenant, store.owner, self._answer.state, message["body"], self._items)
                await self._keeper.run(lambda: store.begin(Kept(*row)))
                for one in held:
                    await send(one)

        await self._generation(scope, receive, keep)


async def _record(request: Request, recording: Recording, generation: Generation, body: ResponseBody) -> Response:
    """Have a generation go on by itself; its client follows it, or is told that it has begun."""
    if body.background:
        await recording.begin()
        recording.start(generation)
        if not body.stream:
            return Response(orjson.dumps(recording.answer.response()), media_type="application/json")
    else:
        recording.start(generation)
    try:
        await unless_gone(request, recording.first())
    except ClientDisconnect:
        if not body.background:  # nobody knows its id
            await recording.cancel()
        raise
    return _stream(recording.follow(-1), recording.headers)


def _stream(events: Any, headers: list[tuple[bytes, bytes]] | None = None) -> Response:
    response = StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-cache"})
    known = {name for name, _ in response.raw_headers}
    response.raw_headers += [(name, value) for name, value in headers or () if name not in known]
    return response


async def _before(keeper: Keeper | None, tenant: str, body: ResponseBody) -> list[bytes]:
    """The items that a response goes on from, as JSON: what the previous one answered, and what it said."""
    if keeper is None or body.previous_response_id is None:
        return []
    kept = await keeper.find(tenant, body.previous_response_id)
    if kept is None:
        raise InvalidRequest("previous_response_id: there is no such response", param="previous_response_id")
    if kept.status not in ("completed", "incomplete"):
        raise InvalidRequest(f"previous_response_id: it is {kept.status}", param="previous_response_id")
    return [kept.items, orjson.dumps(orjson.loads(kept.answer)["output"])]


async def _asked(request: Request) -> tuple[Keeper, Kept]:
    """The stored response that a path names. NotFound: there is none, or it is somebody else's."""
    keeper, id_ = Context.of(request).keeper, request.path_params["id"]
    kept = await keeper.find(request.scope["state"]["tenant"].name, id_) if keeper is not None else None
    if keeper is None or kept is None:
        raise NotFound("no such response", param="response_id")
    recording = keeper.running(kept.tenant, kept.id)
    return keeper, kept if recording is None else recording.kept()


def _after(request: Request) -> int | None:
    """The number of the last event that a client has, -1 for none; None when it wants no events."""
    query = request.query_params
    given = query.get("starting_after", request.headers.get("last-event-id"))
    streams = query.get("stream", "true" if "last-event-id" in request.headers else "false")
    if streams not in ("true", "false", "1", "0"):
        raise InvalidRequest("stream: want true or false", param="stream")
    if streams in ("false", "0"):
        return None
    if given is None:
        return -1
    if not (given.isascii() and given.isdecimal() and len(given) <= 10 and int(given) < _NUMBER_MAX):
        raise InvalidRequest("starting_after: want the number of an event", param="starting_after")
    return int(given)
