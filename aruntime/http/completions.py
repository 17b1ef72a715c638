"""POST /v1/completions and /v1/chat/completions: the same steps for both.

read -> parse -> resolve the model -> glance at the door -> tokenize -> admit -> answer (http/generation.py)
"""

import time
from array import array

from starlette.requests import Request
from starlette.responses import Response

from aruntime.admission.ask import Ask, Sampling
from aruntime.admission.limits import RouteLimits
from aruntime.admission.tenants import Tenant
from aruntime.base.errors import ContextLengthExceeded, InvalidRequest
from aruntime.base.names import ModelRef
from aruntime.control.view import ServedVersion
from aruntime.http.choices import Choice
from aruntime.http.context import Context
from aruntime.http.generation import Generation
from aruntime.http.meter import Meter
from aruntime.http.requests import Terms, read_json, read_terms
from aruntime.wire.answers import Answer
from aruntime.wire.openai import ChatBody, CompletionBody, parse_chat, parse_completion

_COMPLETION_TOKENS = 16  # OpenAI's default for /v1/completions; a chat may fill its context


async def create_completion(request: Request) -> Response:
    """Answer one completion request, streamed or whole.

    400 the body is wrong; 403 not this tenant's model; 404 no such model; 429, 503 admission refused; 504 the deadline
    passed before a token came.
    """
    context = Context.of(request)
    terms = read_terms(request, context.limits)
    body = parse_completion(await read_json(request, context.limits))
    async with context.view.arrive(ModelRef.parse(body.model), terms.caller) as served:
        meter = Meter(served.route, request, context.clock)
        context.view.door.glance(served.route, _least(terms))
        prompts = [
            array("i", prompt) if isinstance(prompt, list) else await context.encoder.text(served.tokenizer, prompt)
            for prompt in body.prompts
        ]
        room = _room(prompts, body.n or 1, served.route.limits, terms.tenant, "prompt")
        max_tokens = body.max_tokens or min(_COMPLETION_TOKENS, room)
        ask = _ask(terms, body, prompts, max_tokens, served.route.limits, "prompt")
        return _generation(context, served, body, ask, meter)


async def create_chat_completion(request: Request) -> Response:
    """Answer one chat completion request, streamed or whole. Errors as in `create_completion`."""
    context = Context.of(request)
    terms = read_terms(request, context.limits)
    body = parse_chat(await read_json(request, context.limits))
    async with context.view.arrive(ModelRef.parse(body.model), terms.caller) as served:
        meter = Meter(served.route, request, context.clock)
        context.view.door.glance(served.route, _least(terms))
        prompts = [await context.encoder.chat(served.tokenizer, body.messages)]
        room = _room(prompts, body.n or 1, served.route.limits, terms.tenant, "messages")
        max_tokens = body.max_completion_tokens or body.max_tokens or room
        ask = _ask(terms, body, prompts, max_tokens, served.route.limits, "messages")
        return _generation(context, served, body, ask, meter)


def _least(terms: Terms) -> Ask:
    """The least that a request can turn out to be once its text is read: a token for a token."""
    return Ask(
        request_id=terms.request_id,
        prompts=[array("i", [0])],
        max_tokens=1,
        arrived_s=terms.arrived_s,
        deadline_s=terms.deadline_s,
        priority=terms.priority,
        tenant=terms.tenant,
    )


def _room(prompts: list["array[int]"], n: int, limits: RouteLimits, tenant: Tenant, param: str) -> int:
    """How many tokens may follow the longest prompt, at least one: in the context, and of what the tenant may ask."""
    for prompt in prompts:
        if not prompt:
            raise InvalidRequest(f"{param}: want at least one token", param=param)
        if max(prompt) >= limits.vocab:
            raise InvalidRequest(f"{param}: token {max(prompt)} is not below {limits.vocab}", param=param)
    longest = max(map(len, prompts))
    most = limits.tokens_max(tenant)
    if longest >= most:
        raise ContextLengthExceeded(f"{param}: {longest} tokens leave no room in the context of {most}", param=param)
    if tenant.tokens_per_minute is not None:
        left = tenant.tokens_per_minute - sum(map(len, prompts))
        return max(1, min(most - longest, left // (len(prompts) * n)))
    return most - longest


def _ask(
    terms: Terms,
    body: ChatBody | CompletionBody,
    prompts: list["array[int]"],
    max_tokens: int,
    limits: RouteLimits,
    param: str,
) -> Ask:
    """What the body asks for, in tokens. InvalidRequest for what this model cannot ever do."""
    longest, most = max(map(len, prompts)), limits.tokens_max(terms.tenant)
    if longest + max_tokens > most:
        raise ContextLengthExceeded(
            f"{param}: {longest} tokens and {max_tokens} to generate exceed the context of {most}", param=param
        )
    if (body.min_tokens or 0) > max_tokens:
        raise InvalidRequest(f"min_tokens: more than the {max_tokens} tokens to generate", param="min_tokens")
    if any(token >= limits.vocab for token in body.stop_token_ids or ()):
        raise InvalidRequest(f"stop_token_ids: want ids below {limits.vocab}", param="stop_token_ids")
    ends_at_will = not body.ignore_eos or body.stop_token_ids or body.stops
    return Ask(
        request_id=terms.request_id,
        prompts=prompts,
        n=body.n or 1,
        max_tokens=max_tokens,
        sampling=_sampling(body),
        arrived_s=terms.arrived_s,
        deadline_s=terms.deadline_s,
        priority=terms.priority,
        tenant=terms.tenant,
        field=param,
        tokens_min=max(1, body.min_tokens or 0) if ends_at_will else max_tokens,
    )


def _sampling(body: ChatBody | CompletionBody) -> Sampling:
    """The body's fields with OpenAI's defaults for those that were left out."""
    return Sampling(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=body.top_p or 1.0,
        min_p=body.min_p or 0.0,
        top_k=max(0, body.top_k or 0),
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        repetition_penalty=body.repetition_penalty or 1.0,
        seed=body.seed,
        ignore_eos=body.ignore_eos or False,
        min_tokens=body.min_tokens or 0,
        stop_token_ids=tuple(body.stop_token_ids or ()),
    )


def _generation(
    context: Context, served: ServedVersion, body: ChatBody | CompletionBody, ask: Ask, meter: Meter
) -> Generation:
    answer = Answer(
        chat=isinstance(body, ChatBody),
        request_id=ask.request_id,
        model=body.model,
        fingerprint=f"{served.name}@{served.version}",
        created_s=int(time.time()),
        choices=ask.choices,
        wants_usage=body.wants_usage,
    )
    choices = [Choice(served.tokenizer.detokenizer(), body.stops, ask.sampling.min_tokens) for _ in range(ask.choices)]
    ticket = context.view.door.admit(served.route, ask)
    return Generation(
        ticket, ask, answer, choices, meter, version=f"{served.name}@{served.version}", stream=body.stream
    )
