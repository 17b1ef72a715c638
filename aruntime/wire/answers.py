"""Answers to completion requests: whole, and as events of a stream.

A stream's event differs from the one before it in its text only, so what stands before and after the text is written
once for each choice:

    data: {"id":…,"choices":[{"index":0,"delta":{"content":  "text"  },"logprobs":null,"finish_reason":null}],…}

The shapes are OpenAI's: in chat the role comes first; one event a choice has its finish_reason; with usage asked for,
every other event says `"usage": null` and the last has no choices. A call's arguments come in pieces, to be joined by
its `index`; a thought is `reasoning_content`, and `reasoning` as well.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import orjson

from aruntime.base.errors import ServingError
from aruntime.wire.errors import error_event
from aruntime.wire.logprobs import chat_logprobs, completion_logprobs
from aruntime.wire.said import Answered, Call, Finish, Said, Text

DONE = b"data: [DONE]\n\n"
JSON = (b"content-type", b"application/json")


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens of one request, over all its choices.

    `cached` are those of the prompts that were not computed again, `reasoning` those of the answers that are thoughts.
    """

    prompt: int
    completion: int
    cached: int = 0
    reasoning: int = 0

    def as_dict(self) -> dict[str, object]:
        """In OpenAI's words."""
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
            "completion_tokens_details": {"reasoning_tokens": self.reasoning},
        }


class AnswerShape:
    """How one request's answer is written: whole, or as the events of a stream, which may be nothing at all.

    `headers` are those of the whole answer, once it is written.
    """

    headers: list[tuple[bytes, bytes]]

    def begin(self) -> bytes:
        """The events before any text."""
        return b""

    def add(self, choice: int, said: Said) -> bytes:
        """What is new of a choice."""
        return b""

    def end(self, choice: int, finish: Finish) -> bytes:
        """The last event of a choice."""
        return b""

    def done(self, usage: Usage) -> bytes:
        """The stream's end."""
        return b""

    def failed(self, error: ServingError) -> bytes:
        """The stream's end when the status is spent."""
        return b""

    def whole(self, answers: Sequence[Answered], usage: Usage) -> bytes:
        """The answer of a request that is not streamed, choice by choice."""
        return b""


class Answer(AnswerShape):
    """OpenAI's shape of one request's answer. `chat` chooses the endpoint's; `created_s` is seconds since 1970.

    With `tells_tier` it says which service tier has served it: there is one. With `functions` a call is told by the
    name that it had before there were tools.
    """

    def __init__(
        self,
        *,
        chat: bool,
        request_id: str,
        model: str,
        fingerprint: str,
        created_s: int,
        choices: int = 1,
        wants_usage: bool = False,
        wants_logprobs: bool = False,
        tells_tier: bool = False,
        functions: bool = False,
    ) -> None:
        self.headers = [JSON]
        self.id = f"{'chatcmpl' if chat else 'cmpl'}-{request_id}"
        self._chat = chat
        self._wants_usage = wants_usage
        self._wants_logprobs = wants_logprobs
        self._functions = functions
        self._logprobs = chat_logprobs if chat else completion_logprobs
        self._common: dict[str, object] = {
            "id": self.id,
            "object": "chat.completion" if chat else "text_completion",
            "created": created_s,
            "model": model,
            "system_fingerprint": fingerprint,
            **({"service_tier": "default"} if tells_tier else {}),
        }
        kind = {"object": "chat.completion.chunk"} if chat else {}
        self._head = b"data: " + orjson.dumps(self._common | kind)[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if wants_usage else b"]}\n\n"
        before_text = b'"delta":{"content":' if chat else b'"text":'
        self._before_text = [b'%b{"index":%d,%b' % (self._head, choice, before_text) for choice in range(choices)]
        self._after_text = b'%b,"logprobs":null,"finish_reason":null}%b' % (b"}" if chat else b"", self._tail)

    def begin(self) -> bytes:
        """The events before any text: in chat the role of every choice."""
        role = b'"delta":{"role":"assistant","content":"","refusal":null}'
        return b"".join(self._event(choice, role) for choice in range(len(self._before_text))) if self._chat else b""

    def add(self, choice: int, said: Said) -> bytes:
        """What is new of a choice."""
        if len(said.parts) != 1 or said.tokens or not isinstance(part := said.parts[0], Text):
            return self._add_more(choice, said)
        return self._before_text[choice] + orjson.dumps(part.text) + self._after_text

    def end(self, choice: int, finish: Finish) -> bytes:
        """The last event of a choice."""
        reason = b'"%b"' % self._reason(finish).encode()
        return self._event(choice, b'"delta":{}' if self._chat else b'"text":""', reason)

    def done(self, usage: Usage) -> bytes:
        """The stream's end: usage when it was asked for, and [DONE]."""
        if not self._wants_usage:
            return DONE
        return b'%b],"usage":%b}\n\n%b' % (self._head, orjson.dumps(usage.as_dict()), DONE)

    def failed(self, error: ServingError) -> bytes:
        """The stream's end when the status is spent; no [DONE] follows."""
        return error_event(error)

    def whole(self, answers: Sequence[Answered], usage: Usage) -> bytes:
        """The answer of a request that is not streamed, choice by choice."""
        return orjson.dumps(self.told(answers, usage))

    def told(self, answers: Sequence[Answered], usage: Usage) -> dict[str, object]:
        """What `whole` writes."""
        choices = [
            {
                "index": i,
                **self._said(one.said),
                "logprobs": self._logprobs(one.said.tokens) if self._wants_logprobs else None,
                "finish_reason": self._reason(one.finish),
            }
            for i, one in enumerate(answers)
        ]
        return {**self._common, "choices": choices, "usage": usage.as_dict()}

    def _said(self, said: Said) -> dict[str, object]:
        return {"message": _message(said, functions=self._functions)} if self._chat else {"text": said.text}

    def _reason(self, finish: Finish) -> str:
        return "function_call" if self._functions and finish.reason == "tool_calls" else finish.reason

    def _add_more(self, choice: int, said: Said) -> bytes:
        """The same, with calls and thoughts, and with how likely its tokens were."""
        delta = _delta(said, functions=self._functions)
        inner = b'"delta":' + orjson.dumps(delta) if self._chat else b'"text":' + orjson.dumps(said.text)
        return self._event(choice, inner, logprobs=orjson.dumps(self._logprobs(said.tokens) if said.tokens else None))

    def _event(self, choice: int, inner: bytes, finish_reason: bytes = b"null", *, logprobs: bytes = b"null") -> bytes:
        return b'%b{"index":%d,%b,"logprobs":%b,"finish_reason":%b}%b' % (
            self._head,
            choice,
            inner,
            logprobs,
            finish_reason,
            self._tail,
        )


def _message(said: Said, *, functions: bool) -> dict[str, object]:
    """An assistant's message: all that it said."""
    calls = said.calls
    content = None if calls and not said.text else said.text
    message: dict[str, object] = {"role": "assistant", "content": content, "refusal": None, **_thought(said)}
    if calls and functions:
        return {**message, "function_call": {"name": calls[0].name, "arguments": calls[0].arguments}}
    return {**message, "tool_calls": [_call(call) for call in calls]} if calls else message


def _delta(said: Said, *, functions: bool) -> dict[str, object]:
    """What is new of one: a call has its id and name when it begins."""
    calls = [{"index": call.index, **(_call(call) if call.id else _more(call))} for call in said.calls]
    told = {"function_call": calls[0]["function"]} if functions and calls else {"tool_calls": calls}
    more = _thought(said) | (told if calls else {})
    return {"content": said.text, **more} if said.text or not more else more


def _thought(said: Said) -> dict[str, object]:
    """DeepSeek's name for it, which most servers and clients know, and vLLM's newer one."""
    return {"reasoning_content": said.reasoning, "reasoning": said.reasoning} if said.reasoning else {}


def _call(call: Call) -> dict[str, object]:
    return {"id": call.id, "type": "function", "function": {"name": call.name, "arguments": call.arguments}}


def _more(call: Call) -> dict[str, object]:
    return {"function": {"arguments": call.arguments}}
