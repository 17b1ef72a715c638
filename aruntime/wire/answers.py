"""Answers to completion requests: whole, and as events of a stream.

A stream's chunk differs from the last one in a few bytes, so everything around them is written once a request. The shapes
are OpenAI's: in chat the role comes first; one chunk a choice has its finish_reason; with usage asked for, every other
chunk says `"usage": null` and the last has no choices.
"""

from dataclasses import dataclass, field

import orjson

DONE = b"data: [DONE]\n\n"


@dataclass(slots=True)
class Usage:
    """Tokens of one request, over all its choices."""

    prompt: int
    cached: int = 0
    completion: int = 0

    def as_dict(self) -> dict[str, object]:
        return {
            "prompt_tokens": self.prompt,
            "completion_tokens": self.completion,
            "total_tokens": self.prompt + self.completion,
            "prompt_tokens_details": {"cached_tokens": self.cached},
        }


@dataclass(slots=True)
class Answer:
    """One request's answer in the making. `chat` chooses the shape; `created_s` is seconds since 1970."""

    chat: bool
    request_id: str
    model: str
    created_s: int
    wants_usage: bool = False
    _head: bytes = field(init=False)
    _tail: bytes = field(init=False)

    def __post_init__(self) -> None:
        self._head = b"data: " + orjson.dumps(self._common(chunk=True))[:-1] + b',"choices":['
        self._tail = b'],"usage":null}\n\n' if self.wants_usage else b"]}\n\n"

    def begin(self, choice: int) -> bytes:
        """The first event of a choice: in chat its role; nothing in completions."""
        if not self.chat:
            return b""
        return self._event(b'{"index":%d,"delta":{"role":"assistant","content":""},"logprobs":null,' % choice, b"null")

    def text(self, choice: int, text: str) -> bytes:
        """New text of a choice."""
        if self.chat:
            return self._event(
                b'{"index":%d,"delta":{"content":%b},"logprobs":null,' % (choice, orjson.dumps(text)), b"null"
            )
        return self._event(b'{"index":%d,"text":%b,"logprobs":null,' % (choice, orjson.dumps(text)), b"null")

    def end(self, choice: int, finish_reason: str) -> bytes:
        """The last event of a choice."""
        inner = b'"delta":{}' if self.chat else b'"text":""'
        return self._event(b'{"index":%d,%b,"logprobs":null,' % (choice, inner), b'"%b"' % finish_reason.encode())

    def done(self, usage: Usage) -> bytes:
        """The stream's end: usage when it was asked for, and [DONE]."""
        if not self.wants_usage:
            return DONE
        return self._head + b'],"usage":' + orjson.dumps(usage.as_dict()) + b"}\n\n" + DONE

    def whole(self, texts: list[str], finish_reasons: list[str], usage: Usage) -> bytes:
        """The answer of a request that is not streamed."""
        choices = [
            {"index": i, **self._said(text), "logprobs": None, "finish_reason": reason}
            for i, (text, reason) in enumerate(zip(texts, finish_reasons, strict=True))
        ]
        return orjson.dumps({**self._common(chunk=False), "choices": choices, "usage": usage.as_dict()})

    def _said(self, text: str) -> dict[str, object]:
        return {"message": {"role": "assistant", "content": text, "refusal": None}} if self.chat else {"text": text}

    def _common(self, *, chunk: bool) -> dict[str, object]:
        kind = "chat.completion.chunk" if self.chat and chunk else "chat.completion" if self.chat else "text_completion"
        return {
            "id": f"{'chatcmpl' if self.chat else 'cmpl'}-{self.request_id}",
            "object": kind,
            "created": self.created_s,
            "model": self.model,
            "system_fingerprint": None,
        }

    def _event(self, choice: bytes, finish_reason: bytes) -> bytes:
        return b'%b%b"finish_reason":%b}%b' % (self._head, choice, finish_reason, self._tail)
