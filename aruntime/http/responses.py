"""POST /v1/responses, as clients of OpenAI's Responses API ask: read -> parse -> the shared steps."""

import time

from starlette.requests import Request
from starlette.responses import Response

from aruntime.admission.ask import Ask
from aruntime.base.names import ModelRef
from aruntime.control.view import ServedVersion
from aruntime.http.context import Context
from aruntime.http.meter import Count
from aruntime.http.questions import Question, answer_text, meet, read
from aruntime.http.requests import Terms, read_terms
from aruntime.wire.responses import parse_response, unstored
from aruntime.wire.responses_answers import ResponseAnswer


async def create_response(request: Request) -> Response:
    """Answer one request for a response, streamed or whole. Errors as in `create_completion`."""
    context = Context.of(request)
    terms = read_terms(request, context.limits)
    body = await read(request, context, parse_response)
    if (refused := unstored(body)) is not None:
        raise refused
    question = Question(
        fields=body.sampling,
        field="input",
        conversation=body.conversation(),
        max_tokens=body.max_output_tokens,
        stream=bool(body.stream),
        logprobs=body.alternatives,
        constraint=body.constraint,
    )

    def shape(_served: ServedVersion, _ask: Ask) -> ResponseAnswer:
        return ResponseAnswer(echo=body.echo, store=False, clock=time.time)

    async def reply(served: ServedVersion, count: Count, terms: Terms) -> Response:
        return await answer_text(context, served, terms, question, count, shape)

    return await meet(request, context, terms, ModelRef.parse(body.model), reply)
