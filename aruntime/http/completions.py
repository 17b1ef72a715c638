"""POST /v1/completions and /v1/chat/completions: read -> parse -> the shared steps (http/questions.py)."""

import secrets
import time
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from aruntime.admission.ask import Ask
from aruntime.base.names import ModelRef
from aruntime.control.view import ServedVersion
from aruntime.http.asks import COMPLETION_TOKENS, Question
from aruntime.http.context import Context
from aruntime.http.meter import Count
from aruntime.http.questions import answer_text, meet, read
from aruntime.http.recorded import keep
from aruntime.http.requests import Terms, read_terms
from aruntime.wire.answers import Answer
from aruntime.wire.body import refusal
from aruntime.wire.openai import ChatBody, parse_chat
from aruntime.wire.openai_completions import CompletionBody, parse_completion
from aruntime.wire.stored_chat import StoredChat


async def create_completion(request: Request) -> Response:
    """Answer one completion request, streamed or whole.

    400 the body is wrong; 403 not this tenant's model; 404 no such model; 429, 503 admission refused; 504 the deadline
    passed before a token came.
    """
    context = Context.of(request)
    terms = read_terms(request, context.limits)
    body = await read(request, context, parse_completion)
    question = Question(
        fields=body,
        field="prompt",
        prompts=body.prompts,
        max_tokens=body.max_tokens,
        tokens_default=COMPLETION_TOKENS,
        echo=bool(body.echo),
        **_shared(body),
    )
    return await _openai(request, context, terms, body, question)


async def create_chat_completion(request: Request) -> Response:
    """Answer one chat completion request, streamed or whole. Errors as in `create_completion`."""
    context = Context.of(request)
    terms = read_terms(request, context.limits)
    body = await read(request, context, parse_chat)
    question = Question(
        fields=body,
        field="messages",
        conversation=body.conversation,
        max_tokens=body.max_completion_tokens or body.max_tokens,
        **_shared(body),
    )
    return await _openai(request, context, terms, body, question)


def _shared(body: ChatBody | CompletionBody) -> dict[str, Any]:
    return {
        "n": body.n or 1,
        "stream": bool(body.stream),
        "logit_bias": body.biases,
        "bad_words": body.bad_words or (),
        "logprobs": body.alternatives,
        "constraint": body.constraint,
    }


async def _openai(
    request: Request, context: Context, terms: Terms, body: ChatBody | CompletionBody, question: Question
) -> Response:
    keeper = context.keeper if isinstance(body, ChatBody) and body.store else None
    if keeper is None and isinstance(body, ChatBody) and body.store:
        raise refusal("store", "not supported by this server: answers are not kept here")

    def about(served: ServedVersion) -> dict[str, Any]:
        return {
            "model": body.model,
            "fingerprint": f"{served.name}@{served.version}",
            "created_s": int(time.time()),
            "wants_usage": body.wants_usage,
            "wants_logprobs": question.logprobs is not None,
            "tells_tier": body.service_tier is not None,
            "functions": isinstance(body, ChatBody) and bool(body.functions),
        }

    def shape(served: ServedVersion, ask: Ask) -> Answer:
        chat = isinstance(body, ChatBody)
        return Answer(chat=chat, request_id=ask.request_id, choices=ask.choices, **about(served))

    async def reply(served: ServedVersion, count: Count, terms: Terms) -> Response:
        if keeper is None or terms.mirrored:
            return await answer_text(context, served, terms, question, count, shape)
        answer = StoredChat(request_id=secrets.token_hex(16), choices=question.n, **about(served))
        generation = await answer_text(context, served, terms, question, count, lambda _served, _ask: answer)
        return await keep(request, keeper, terms, answer, b"[]", generation, stream=bool(body.stream))

    return await meet(request, context, terms, ModelRef.parse(body.model), reply)
