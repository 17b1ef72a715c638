"""POST /v1/completions and /v1/chat/completions: the same steps for both.

read -> parse -> resolve the model -> tokenize -> admit at the door -> answer (http/generation.py)
"""

import asyncio
import time
from array import array
from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from aruntime.admission.ask import Ask, Sampling
from aruntime.base.errors import ContextLengthExceeded, InvalidRequest
from aruntime.base.names import ModelRef
from aruntime.control.view import ServedVersion, View
from aruntime.http.choices import Choice
from aruntime.http.generation import Generation
from aruntime.http.limits import HttpLimits
from aruntime.http.requests import deadline_s, priority, read_json
from aruntime.model.chat_template import TemplateRefused
from aruntime.model.tokenizer import Tokenizer
from aruntime.wire.answers import Answer, Usage
from aruntime.wire.openai import ChatBody, CompletionBody, parse_chat, parse_completion

_COMPLETION_TOKENS = 16  # OpenAI's default for /v1/completions; a chat may fill its context


async def create_completion(request: Request) -> Response:
    """Answer one completion request, streamed or whole.

    400 the body is wrong; 404 no such model; 503, 429 admission refused; 504 the deadline passed before the first token.
    """
    body = parse_completion(await read_json(request, _limits(request)))
    served = _view(request).resolve(ModelRef.parse(body.model))
    prompts = [
        array("i", prompt if isinstance(prompt, list) else await _off_loop(request, prompt, served.tokenizer.encode))
        for prompt in body.prompts
    ]
    return _generate(request, body, served, prompts, body.max_tokens or _COMPLETION_TOKENS, chat=False)


async def create_chat_completion(request: Request) -> Response:
    """Answer one chat completion request, streamed or whole. Errors as in `create_completion`."""
    body = parse_chat(await read_json(request, _limits(request)))
    served = _view(request).resolve(ModelRef.parse(body.model))
    messages = [{"role": message.role, "content": message.text} for message in body.messages]

    def encode(_text: str) -> list[int]:
        return served.tokenizer.encode_chat(messages)

    text = "".join(message["content"] for message in messages)
    prompts = [array("i", await _off_loop(request, text, encode))]
    return _generate(request, body, served, prompts, body.max_completion_tokens or body.max_tokens, chat=True)


async def _off_loop(request: Request, text: str, encode: Callable[[str], list[int]]) -> list[int]:
    """Tokenize here when `text` is short, in a thread when it is long."""
    try:
        if len(text) <= _limits(request).inline_chars_max:
            return encode(text)
        return await asyncio.to_thread(encode, text)
    except TemplateRefused as error:
        raise InvalidRequest(str(error), param="messages") from None


def _generate(
    request: Request,
    body: ChatBody | CompletionBody,
    served: ServedVersion,
    prompts: list["array[int]"],
    max_tokens: int | None,
    *,
    chat: bool,
) -> Generation:
    param = "messages" if chat else "prompt"
    state = request.scope["state"]
    _check_prompts(prompts, served, max_tokens, param)
    longest = max(map(len, prompts))
    ask = Ask(
        request_id=state["request_id"],
        prompts=prompts,
        n=body.n or 1,
        max_tokens=max_tokens or served.route.limits.context_max - longest,
        sampling=_sampling(body, served.tokenizer),
        arrived_s=state["arrived_s"],
        deadline_s=deadline_s(request, state["arrived_s"], _limits(request)),
        priority=priority(request),
    )
    return Generation(
        _view(request).door.admit(served.route, ask),
        served,
        Answer(chat, ask.request_id, body.model, int(time.time()), body.wants_usage),
        [Choice(served.tokenizer, body.stops) for _ in range(ask.choices)],
        Usage(prompt=sum(map(len, prompts))),
        stream=bool(body.stream),
        arrived_s=ask.arrived_s,
    )


def _check_prompts(prompts: list["array[int]"], served: ServedVersion, max_tokens: int | None, param: str) -> None:
    limits = served.route.limits
    for prompt in prompts:
        if not prompt:
            raise InvalidRequest(f"{param}: want at least one token", param=param)
        if max(prompt) >= limits.vocab:
            raise InvalidRequest(f"{param}: token {max(prompt)} is not below {limits.vocab}", param=param)
        if len(prompt) + (max_tokens or 1) > limits.context_max:
            raise ContextLengthExceeded(
                f"{len(prompt)} prompt tokens and {max_tokens or 1} to generate exceed the context of "
                f"{limits.context_max} tokens",
                param=param,
            )


def _sampling(body: ChatBody | CompletionBody, tokenizer: Tokenizer) -> Sampling:
    """The body's fields with OpenAI's defaults for those that were left out."""
    stop_token_ids = tuple(body.stop_token_ids or ())
    if any(token >= tokenizer.vocab_size for token in stop_token_ids):
        raise InvalidRequest(f"stop_token_ids: want ids below {tokenizer.vocab_size}", param="stop_token_ids")
    return Sampling(
        temperature=1.0 if body.temperature is None else body.temperature,
        top_p=1.0 if body.top_p is None else body.top_p,
        min_p=body.min_p or 0.0,
        top_k=max(0, body.top_k or 0),
        presence_penalty=body.presence_penalty or 0.0,
        frequency_penalty=body.frequency_penalty or 0.0,
        repetition_penalty=body.repetition_penalty or 1.0,
        seed=None if body.seed is None else body.seed & (2**64 - 1),
        ignore_eos=bool(body.ignore_eos),
        min_tokens=body.min_tokens or 0,
        stop_token_ids=stop_token_ids,
    )


def _view(request: Request) -> View:
    view: View = request.app.state.view
    return view


def _limits(request: Request) -> HttpLimits:
    limits: HttpLimits = request.app.state.limits
    return limits
