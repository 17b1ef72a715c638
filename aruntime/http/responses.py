"""POST /v1/responses, as clients of OpenAI's Responses API ask: read -> parse -> the shared steps.

What is streamed or in the background, and stored, is a recording (http/keeper.py); kept_responses.py tells it again.
"""

import time

import orjson
from starlette.requests import Request
from starlette.responses import Response

from aruntime.base.names import ModelRef
from aruntime.control.kept import Kept
from aruntime.control.view import ServedVersion
from aruntime.http.asks import Question
from aruntime.http.context import Context
from aruntime.http.keeper import Keeper
from aruntime.http.meter import Count
from aruntime.http.questions import answer_text, find, meet, read, tokenizer_of
from aruntime.http.recorded import keep
from aruntime.http.requests import Terms, read_terms
from aruntime.wire.body import refusal
from aruntime.wire.conversation import Conversation
from aruntime.wire.responses import InputTokensBody, parse_input_tokens, parse_response, unstored
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
        background, stream = bool(body.background), bool(body.stream)
        return await keep(request, keeper, terms, answer, items, generation, background=background, stream=stream)

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
