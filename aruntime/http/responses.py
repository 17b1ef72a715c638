"""POST /v1/responses, as clients of OpenAI's Responses API ask: read -> parse -> the shared steps.

What is streamed or in the background, and stored, is a recording (http/keeper.py); kept_responses.py tells it again.
"""

import time
from collections.abc import AsyncIterator

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Message, Receive, Scope, Send

from aruntime.base.names import ModelRef
from aruntime.control.kept import Kept
from aruntime.control.view import ServedVersion
from aruntime.http.context import Context
from aruntime.http.generation import Generation
from aruntime.http.keeper import Keeper, Recording
from aruntime.http.meter import Count
from aruntime.http.questions import Question, answer_text, find, meet, read, tokenizer_of
from aruntime.http.requests import Terms, read_terms, unless_gone
from aruntime.wire.body import refusal
from aruntime.wire.conversation import Conversation
from aruntime.wire.responses import InputTokensBody, ResponseBody, parse_input_tokens, parse_response, unstored
from aruntime.wire.responses_answers import ResponseAnswer
from aruntime.wire.responses_kept import input_tokens


async def create_response(request: Request) -> Response:
    """Answer one request for a response, streamed or whole, now or in the background.

    Errors as in `create_completion`; 400 a previous response that is not there, or has not ended.
    """
    context = Context.of(request)
    terms = read_terms(request, context.limits)
    body, size = await read(request, context, lambda raw: (parse_response(raw), len(raw)))
    items, conversation = await _goes_on_from(context, terms, body, size)
    keeper = context.keeper
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
        if not recorded:
            return _KeptWhole(keeper, terms.tenant.name, answer, items, generation)
        recording = Recording(keeper, terms.tenant.name, answer, items, terms.request_id)
        return await _record(request, recording, generation, body)

    return await meet(request, context, terms, ModelRef.parse(body.model), reply)


async def count_input_tokens(request: Request) -> Response:
    """How many tokens a response would go on from. No engine is asked; errors as in `create_response`."""
    context = Context.of(request)
    terms = read_terms(request, context.limits)
    body, size = await read(request, context, lambda raw: (parse_input_tokens(raw), len(raw)))
    _, conversation = await _goes_on_from(context, terms, body, size)
    served = await find(request, context, terms, ModelRef.parse(body.model))
    ids = await context.encoder.chat(tokenizer_of(served), conversation, field="input")
    return Response(input_tokens(len(ids)), media_type="application/json")


def stream(events: AsyncIterator[bytes], headers: list[tuple[bytes, bytes]] | None = None) -> Response:
    """Events as they come, with what headers their generation has."""
    response = StreamingResponse(events, media_type="text/event-stream", headers={"cache-control": "no-cache"})
    known = {name for name, _ in response.raw_headers}
    response.raw_headers += [(name, value) for name, value in headers or () if name not in known]
    return response


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
    return stream(recording.follow(-1), recording.headers)


async def _goes_on_from(context: Context, terms: Terms, body: InputTokensBody, size: int) -> tuple[bytes, Conversation]:
    """All that a body of `size` bytes goes on from: its items as JSON, with those before them, and the conversation."""
    if context.keeper is None and (refused := unstored(body)) is not None:
        raise refused
    before = await _before(context.keeper, terms.tenant.name, body.previous_response_id)

    def make() -> tuple[bytes, Conversation]:
        items = body.items
        if before is not None:
            items = [*orjson.loads(before.items), *orjson.loads(before.answer)["output"], *items]
        return orjson.dumps(items), body.conversation(items)

    if before is not None:
        size += len(before.items) + len(before.answer)
    return await context.encoder.run(size, make)


async def _before(keeper: Keeper | None, tenant: str, id_: str | None) -> Kept | None:
    """The previous response, if there is to be one. InvalidRequest: it is not there, or has not ended well."""
    if keeper is None or id_ is None:
        return None
    if (kept := await keeper.find(tenant, id_)) is None:
        raise refusal("previous_response_id", "there is no such response")
    if kept.status not in ("completed", "incomplete"):
        raise refusal("previous_response_id", f"it is {kept.status}")
    return kept
