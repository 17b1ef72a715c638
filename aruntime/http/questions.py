"""The steps that every endpoint of a language model shares, whatever its protocol.

meet the model -> glance at the door -> tokenize -> admit -> answer (http/generation.py)
              └─ while a rollout shadows: the same for its candidate (http/mirror.py)
"""

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from starlette.requests import Request
from starlette.responses import Response

from aruntime.admission.ask import Ask, Sampling
from aruntime.admission.limits import RouteLimits
from aruntime.admission.tenants import Tenant
from aruntime.base.errors import ContextLengthExceeded, InvalidRequest
from aruntime.base.names import ModelRef
from aruntime.control.view import ServedVersion
from aruntime.http.choices import Choice
from aruntime.http.constrained import grammar_of
from aruntime.http.context import Context
from aruntime.http.generation import Generation
from aruntime.http.meter import Count, Meter
from aruntime.http.mirror import Reply
from aruntime.http.requests import Terms, read_json, unless_gone
from aruntime.http.scores import Scorer
from aruntime.http.stops import StopText
from aruntime.model.speech.listening import listen
from aruntime.model.tokenizer import Tokenizer
from aruntime.wire.answers import AnswerShape
from aruntime.wire.conversation import Conversation
from aruntime.wire.fields import SamplingFields
from aruntime.wire.grammars import Constraint

ECHOED_MAX = 1 << 16  # they are detokenized in one piece, while others wait
COMPLETION_TOKENS = 16  # OpenAI's default for /v1/completions; a chat may fill its context


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked of a language model, whatever the protocol: prompts, or a conversation, to go on from.

    `field` is what the client called them. Without `max_tokens` there are `tokens_default`, or as many as fit; 0 says
    nothing but the echo. With `logprobs` each token's is told, and so many alternatives to it. `constraint` is what an
    answer must look like.
    """

    fields: SamplingFields
    field: str
    prompts: Sequence[str | list[int]] = ()
    conversation: Conversation | None = None
    n: int = 1
    max_tokens: int | None = None
    tokens_default: int | None = None
    stream: bool = False
    logit_bias: Sequence[tuple[int, float]] = ()
    bad_words: Sequence[str] = ()
    logprobs: int | None = None
    echo: bool = False
    constraint: Constraint | None = None


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
    if question.conversation is not None:
        prompts = [await context.encoder.chat(tokenizer, question.conversation, field=field)]
    else:
        prompts = [
            array("i", prompt) if isinstance(prompt, list) else await context.encoder.text(tokenizer, prompt)
            for prompt in question.prompts
        ]
    room = _room(prompts, question.n, limits, terms.tenant, field)
    max_tokens = min(question.tokens_default or room, room) if question.max_tokens is None else question.max_tokens
    opens_thought = question.conversation is not None and tokenizer.opens_thought(prompts[0])
    grammar = await grammar_of(
        context.encoder, tokenizer, question.conversation, question.constraint, opens_thought=opens_thought
    )
    ask = _ask(terms, question, prompts, max(1, max_tokens), limits, tokenizer, grammar)
    choices = [_choice(question, tokenizer, prompt, ask, opens_thought) for prompt in prompts for _ in range(ask.n)]
    answer = shape(served, ask)
    ticket = context.view.door.admit(served.route, ask)
    version = f"{served.name}@{served.version}"
    return Generation(ticket, ask, answer, choices, count, version=version, stream=question.stream)


def _choice(question: Question, tokenizer: Tokenizer, prompt: "array[int]", ask: Ask, opens_thought: bool) -> Choice:
    """What takes in one choice's tokens. In a conversation it has a listener, if there is something to tell apart."""
    listener = None
    if question.conversation is not None:
        constrained = bool(ask.sampling.grammar)
        listener = listen(tokenizer.speech, question.conversation, opens_thought=opens_thought, constrained=constrained)
    marks = listener is not None
    begins = question.conversation is not None or question.echo
    scorer = None
    if question.logprobs is not None:
        scorer = Scorer(tokenizer, prompt=question.echo, marks=marks, begins=begins)
    return Choice(
        scorer or tokenizer.detokenizer(marks=marks, begins=begins),
        StopText(question.fields.stops, shown=bool(question.fields.include_stop_str_in_output)),
        ask.sampling.min_tokens,
        listener,
        scorer=scorer,
        echo=prompt if question.echo else (),
        silent=question.max_tokens == 0,
    )


def _least(terms: Terms) -> Ask:
    """The least that a request can turn out to be once its text is read: a token for a token."""
    return terms.ask([array("i", [0])], 1)


def _room(prompts: list["array[int]"], n: int, limits: RouteLimits, tenant: Tenant, param: str) -> int:
    """How many tokens may follow the longest prompt, at least one: in the context, and of what the tenant may ask."""
    if not all(prompts):
        raise InvalidRequest(f"{param}: want at least one token", param=param)
    longest = max(map(len, prompts))
    most = limits.tokens_max(tenant)
    if longest >= most:
        raise ContextLengthExceeded(f"{param}: {longest} tokens leave no room in the context of {most}", param=param)
    if (highest := max(map(max, prompts))) >= limits.vocab:
        raise InvalidRequest(f"{param}: token {highest} is not below {limits.vocab}", param=param)
    if tenant.tokens_per_minute is not None:
        left = tenant.tokens_per_minute - sum(map(len, prompts))
        return max(1, min(most - longest, left // (len(prompts) * n)))
    return most - longest


def _ask(
    terms: Terms,
    question: Question,
    prompts: list["array[int]"],
    max_tokens: int,
    limits: RouteLimits,
    tokenizer: Tokenizer,
    grammar: str,
) -> Ask:
    """What the question asks for, in tokens. InvalidRequest for what this model cannot ever do."""
    body, param = question.fields, question.field
    longest, most = max(map(len, prompts)), limits.tokens_max(terms.tenant)
    if longest + max_tokens > most:
        raise ContextLengthExceeded(
            f"{param}: {longest} tokens and {max_tokens} to generate exceed the context of {most}", param=param
        )
    if (body.min_tokens or 0) > max_tokens:
        raise InvalidRequest(f"min_tokens: more than the {max_tokens} tokens to generate", param="min_tokens")
    if any(token >= limits.vocab for token in body.stop_token_ids or ()):
        raise InvalidRequest(f"stop_token_ids: want ids below {limits.vocab}", param="stop_token_ids")
    echoed = question.n * sum(map(len, prompts)) if question.echo else 0
    if echoed > ECHOED_MAX:
        raise InvalidRequest(f"echo: {echoed} tokens of prompts, at most {ECHOED_MAX} are echoed", param="echo")
    if grammar and (body.ignore_eos or body.min_tokens):
        field = "ignore_eos" if body.ignore_eos else "min_tokens"
        raise InvalidRequest(f"{field}: where the answer ends is what its grammar says", param=field)
    ends_at_will = not body.ignore_eos or body.stop_token_ids or body.stops
    return terms.ask(
        prompts,
        max_tokens,
        n=question.n,
        sampling=_sampling(question, tokenizer, grammar),
        top_logprobs=question.logprobs or 0,
        prompt_logprobs=question.echo and question.logprobs is not None,
        field=param,
        tokens_min=max(1, body.min_tokens or 0) if ends_at_will else max_tokens,
    )


def _sampling(question: Question, tokenizer: Tokenizer, grammar: str) -> Sampling:
    """The body's fields with OpenAI's defaults for those that were left out."""
    body = question.fields
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
        logit_bias=tuple(question.logit_bias),
        bad_words=_bad_words(question.bad_words, tokenizer),
        grammar=grammar,
    )


def _bad_words(words: Sequence[str], tokenizer: Tokenizer) -> tuple[tuple[int, ...], ...]:
    """Each word in tokens, as it stands at the head of a text and after a space, as vLLM does it."""
    texts = [text for word in words for text in (word.lstrip(), f" {word.lstrip()}")]
    return tuple(dict.fromkeys(tuple(tokenizer.encode(text, add_bos=False)) for text in texts if text))
