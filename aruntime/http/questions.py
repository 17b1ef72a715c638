"""The steps that every endpoint of a language model shares, whatever its protocol.

meet the model -> glance at the door -> tokenize -> ask (http/asks.py) -> admit -> answer (http/generation.py)
              └─ while a rollout shadows: the same for its candidate (http/mirror.py)
"""

from array import array
from collections.abc import Callable
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from aruntime.admission.ask import Ask
from aruntime.base.errors import InvalidRequest
from aruntime.base.names import ModelRef
from aruntime.control.view import ServedVersion
from aruntime.http.asks import Question, ask_of, room_for
from aruntime.http.choices import choice_of
from aruntime.http.constrained import grammar_of
from aruntime.http.context import Context
from aruntime.http.generation import Generation
from aruntime.http.meter import Count, Meter
from aruntime.http.mirror import Reply
from aruntime.http.requests import Terms, read_json, unless_gone
from aruntime.model.tokenizer import Tokenizer
from aruntime.wire.answers import AnswerShape

Shape = Callable[[ServedVersion, Ask], AnswerShape]
Read = TypeVar("Read")


async def read(request: Request, context: Context, parse: Callable[[bytes], Read]) -> Read:
    """What `parse` makes of a JSON request; of a long one beside the event loop. Errors as in `read_json`."""
    body = await read_json(request, context.limits)
    return await context.encoder.run(len(body), lambda: parse(body))


async def find(request: Request, context: Context, terms: Terms, ref: ModelRef) -> ServedVersion:
    """The replica that a request goes to. It waits for a model that is loaded on demand.

    ModelNotFound, PermissionDenied, ModelNotReady.
    """
    while (served := context.view.find(ref, terms.caller)) is None:
        await unless_gone(request, context.view.wait(ref, terms.caller))
    return served


def tokenizer_of(served: ServedVersion) -> Tokenizer:
    """What makes tokens of texts for a language model. InvalidRequest for a model of tensors."""
    if served.tokenizer is None:
        raise InvalidRequest("model: it takes tensors: POST /v2/models/{model}/infer", param="model")
    return served.tokenizer


async def meet(request: Request, context: Context, terms: Terms, ref: ModelRef, reply: Reply) -> Response:
    """What `reply` makes of a request whose model is known and whose door is not shut: of every request, here.

    Errors as in `find`; what the door says.
    """
    served = await find(request, context, terms, ref)
    with context.view.arriving(served):
        meter = Meter(served.route, request, context.clock)
        context.view.door.glance(served.route, _least(terms))
        answer = await reply(served, meter, terms)
        if (candidate := context.view.shadow(served, terms.caller)) is not None:
            context.mirror.copy(candidate, terms, reply)
        return answer


async def answer_text(
    context: Context, served: ServedVersion, terms: Terms, question: Question, count: Count, shape: Shape
) -> Generation:
    """Have a language model go on from a question; the answer is written as `shape` says."""
    tokenizer = tokenizer_of(served)
    field, limits = question.field, served.route.limits
    prompts = await _prompts(context, tokenizer, question)
    room = room_for(prompts, question.n, limits, terms.tenant, field)
    max_tokens = min(question.tokens_default or room, room) if question.max_tokens is None else question.max_tokens
    opens_thought = question.conversation is not None and tokenizer.opens_thought(prompts[0])
    grammar = await grammar_of(
        context.encoder, tokenizer, question.conversation, question.constraint, opens_thought=opens_thought
    )
    ask = ask_of(terms, question, prompts, max(1, max_tokens), limits, tokenizer, grammar)
    choices = [choice_of(question, tokenizer, prompt, ask, opens_thought) for prompt in prompts for _ in range(ask.n)]
    answer = shape(served, ask)
    ticket = context.view.door.admit(served.route, ask)
    version = f"{served.name}@{served.version}"
    return Generation(ticket, ask, answer, choices, count, version=version, stream=question.stream)


async def _prompts(context: Context, tokenizer: Tokenizer, question: Question) -> list["array[int]"]:
    """What there is to go on from, in tokens."""
    if question.conversation is not None:
        return [await context.encoder.chat(tokenizer, question.conversation, field=question.field)]
    return [
        array("i", prompt) if isinstance(prompt, list) else await context.encoder.text(tokenizer, prompt)
        for prompt in question.prompts
    ]


def _least(terms: Terms) -> Ask:
    """The least that a request can turn out to be once its text is read: a token for a token."""
    return terms.ask([array("i", [0])], 1)
