"""Answers that are kept, on their way to whoever asked: streamed as a recording, or whole."""

from collections.abc import AsyncIterator

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from aruntime.base.errors import ServingError
from aruntime.control.kept import Kept
from aruntime.http.generation import Generation
from aruntime.http.keeper import Keeper, Recorded, Recording
from aruntime.http.requests import Terms, unless_gone


def stream(events: AsyncIterator[bytes], headers: list[tuple[bytes, bytes]] | None = None) -> Response:
    """Events as they come, with what headers their generation has."""
    response = StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-cache"})
    known = {name for name, _ in response.raw_headers}
    response.raw_headers += [(name, value) for name, value in headers or () if name not in known]
    return response


class _KeptWhole(Response):
    """A whole answer that is kept before it is told. While nobody knows its id it ends with its client."""

    def __init__(self, keeper: Keeper, tenant: str, answer: Recorded, items: bytes, generation: Generation) -> None:
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


async def keep(
    request: Request,
    keeper: Keeper,
    terms: Terms,
    answer: Recorded,
    items: bytes,
    generation: Generation,
    *,
    stream: bool,
    background: bool = False,
) -> Response:
    """Have what a generation answers kept, with the `items` it goes on from; how its client is told of it."""
    if not (stream or background):
        return _KeptWhole(keeper, terms.tenant.name, answer, items, generation)
    recording = Recording(keeper, terms.tenant.name, answer, items, terms.request_id)
    return await _record(request, recording, generation, background=background, streamed=stream)


async def _record(
    request: Request, recording: Recording, generation: Generation, *, background: bool, streamed: bool
) -> Response:
    """Have a generation go on by itself; its client follows it, or is told that it has begun."""
    if background:
        try:
            await recording.begin()
        except ServingError as error:
            generation.drop(error.code)
            raise
        recording.start(generation)
        if not streamed:
            return Response(orjson.dumps(recording.answer.response()), media_type="application/json")
    else:
        recording.start(generation)
    try:
        await unless_gone(request, recording.first())
    except ClientDisconnect:
        if not background:  # nobody knows its id
            await recording.cancel()
        raise
    return stream(recording.follow(-1), recording.headers)
