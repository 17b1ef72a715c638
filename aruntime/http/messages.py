"""POST /v1/messages and /v1/messages/count_tokens, as Anthropic's clients ask: read -> parse -> the shared steps."""

from starlette.requests import Request
from starlette.responses import Response

from aruntime.admission.ask import Ask
from aruntime.base.names import ModelRef
from aruntime.control.view import ServedVersion
from aruntime.http.asks import Question
from aruntime.http.context import Context
from aruntime.http.meter import Count
from aruntime.http.questions import answer_text, find, meet, read, tokenizer_of
from aruntime.http.requests import Terms, read_terms
from aruntime.wire.anthropic import MessagesBody, parse_count, parse_messages, write_count
from aruntime.wire.anthropic_answers import MessageAnswer
from aruntime.wire.conversation import Conversation


async def create_message(request: Request) -> Response:
    """Answer one request for a message, streamed or whole. Errors as in `create_completion`, in Anthropic's form.

    More tokens than the context has room for are as many as fit, as with Anthropic's later models.
    """
    context = Context.of(request)
    terms = read_terms(request, context.limits)
    body, conversation = await read(request, context, _with_conversation)
    question = Question(
        fields=body.sampling,
        field="messages",
        conversation=conversation,
        tokens_default=body.max_tokens,
        constraint=body.constraint,
        stream=bool(body.stream),
    )

    def shape(served: ServedVersion, ask: Ask) -> MessageAnswer:
        return MessageAnswer(
            request_id=ask.request_id,
            model=body.model,
            prompt_tokens=sum(map(len, ask.prompts)),
            cut=ask.max_tokens < body.max_tokens,
        )

    async def reply(served: ServedVersion, count: Count, terms: Terms) -> Response:
        return await answer_text(context, served, terms, question, count, shape)

    return await meet(request, context, terms, ModelRef.parse(body.model), reply)


async def count_tokens(request: Request) -> Response:
    """How many tokens a conversation has, as a request for a message would count them. No engine is asked."""
    context = Context.of(request)
    terms = read_terms(request, context.limits)
    body = await read(request, context, parse_count)
    served = await find(request, context, terms, ModelRef.parse(body.model))
    ids = await context.encoder.chat(tokenizer_of(served), body.conversation)
    return Response(write_count(len(ids)), media_type="application/json")


def _with_conversation(body: bytes) -> tuple[MessagesBody, Conversation]:
    parsed = parse_messages(body)
    return parsed, parsed.conversation
