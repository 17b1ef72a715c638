"""From a question, in whatever protocol, to what it asks for in tokens, within the bounds of model and tenant."""

from array import array
from collections.abc import Sequence
from dataclasses import dataclass

from aruntime.admission.ask import Ask, Sampling
from aruntime.admission.limits import RouteLimits
from aruntime.admission.tenants import Tenant
from aruntime.base.errors import ContextLengthExceeded, InvalidRequest
from aruntime.http.requests import Terms
from aruntime.model.tokenizer import Tokenizer
from aruntime.wire.conversation import Conversation
from aruntime.wire.fields import SamplingFields
from aruntime.wire.grammars import Constraint

COMPLETION_TOKENS = 16  # OpenAI's default for /v1/completions; a chat may fill its context
ECHOED_MAX = 1 << 16  # they are detokenized in one piece, while others wait


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


def ask_of(
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


def room_for(prompts: list["array[int]"], n: int, limits: RouteLimits, tenant: Tenant, param: str) -> int:
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
