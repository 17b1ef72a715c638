"""The Responses API's shape of an answer: a response whole, or as numbered events of a stream.

    response.created  response.in_progress
    (output_item.added  content_part.added  output_text.delta…  output_text.done  content_part.done  output_item.done)…
    response.completed | response.incomplete | response.failed

An item is a message, a thought (reasoning_text) or a call (function_call_arguments). The events are numbered from 0.
"""

import secrets
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import orjson

from aruntime.base.errors import ServingError
from aruntime.wire.answers import JSON, AnswerShape, Usage
from aruntime.wire.logprobs import chat_logprobs
from aruntime.wire.said import Answered, Call, Chosen, Finish, Part, Reasoning, Said, Text

PREFIX = "resp_"
_ERROR_CODES = {429: "rate_limit_exceeded"}
_CUT = ("incomplete", "cancelled", "failed")
"""States of a response whose last item may not be whole."""


class ResponseAnswer(AnswerShape):
    """The answer to one request, which has one choice. `echo` is what the response tells of what was asked.

    `clock` is seconds since 1970. `state` is the response's status, and `response()` the response as it is now.
    """

    def __init__(self, *, echo: Mapping[str, Any], store: bool, clock: Callable[[], float]) -> None:
        self.headers = [JSON]
        self.id = f"{PREFIX}{secrets.token_hex(16)}"
        self.state = "in_progress"
        self._clock = clock
        self._echo = echo
        self._store = store
        self._created_s = int(clock())
        self._number = 0
        self._output: list[dict[str, Any]] = []
        self._open: type[Part] | int | None = None  # what the item that is not yet over is of: a call's is its index
        self._pieces: list[str] = []  # what the open item says, joined when it ends
        self._tokens: list[dict[str, Any]] = []  # how likely they were
        self._untold: list[Chosen] = []  # tokens that said no text yet
        self._error: dict[str, Any] | None = None
        self._usage: Usage | None = None

    def begin(self) -> bytes:
        """The events before any item."""
        return self._lifecycle("response.created") + self._lifecycle("response.in_progress")

    def add(self, choice: int, said: Said) -> bytes:
        """What is new, in items as it comes."""
        self._untold += said.tokens
        return b"".join([event for part in said.parts for event in self._part(part)])

    def end(self, choice: int, finish: Finish) -> bytes:
        """The last item's end."""
        self.state = "incomplete" if finish.reason == "length" else "completed"
        if not self._output:  # it said nothing at all
            return b"".join([*self._part(Text("")), *self._close()])
        return b"".join(self._close())

    def done(self, usage: Usage) -> bytes:
        """The response as it ended."""
        self._usage = usage
        return self._lifecycle(f"response.{self.state}")

    def failed(self, error: ServingError) -> bytes:
        """The stream's end when the status is spent; what was said so far stays."""
        self.state, self._error = "failed", error_told(error)
        return b"".join([*self._close(), self._lifecycle("response.failed")])

    def cancelled(self) -> bytes:
        """The stream's end when somebody has ended it; what was said so far stays."""
        self.state = "cancelled"
        return b"".join([*self._close(), self._lifecycle("response.incomplete")])

    def whole(self, answers: Sequence[Answered], usage: Usage) -> bytes:
        """The response of a request that is not streamed."""
        (one,) = answers
        self.add(0, one.said)
        self.end(0, one.finish)
        self._usage = usage
        return orjson.dumps(self.response())

    def response(self) -> dict[str, Any]:
        """The response as it is now."""
        cut = self.state == "incomplete"
        return {
            "id": self.id,
            "object": "response",
            "created_at": self._created_s,
            "completed_at": int(self._clock()) if self.state == "completed" else None,
            "status": self.state,
            "error": self._error,
            "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
            "output": self._output,
            "store": self._store,
            "usage": None if self._usage is None else _usage(self._usage),
            **self._echo,
        }

    def _lifecycle(self, name: str) -> bytes:
        return self._event(name, {"response": self.response()})

    def _event(self, name: str, data: Mapping[str, Any]) -> bytes:
        event = orjson.dumps({"type": name, "sequence_number": self._number, **data})
        self._number += 1
        return b"event: %b\ndata: %b\n\n" % (name.encode(), event)

    def _part(self, part: Part) -> Iterator[bytes]:
        if self._open != (kind := part.index if isinstance(part, Call) else type(part)):
            yield from self._close()
            self._open = kind
            item = _begun(part)
            self._output.append(item)
            yield self._event("response.output_item.added", {"output_index": len(self._output) - 1, "item": item})
            if not isinstance(part, Call):
                yield self._event("response.content_part.added", self._place({"part": _content(part)}))
        text = part.arguments if isinstance(part, Call) else part.text
        if isinstance(part, Text):
            told = self._likely()
            if text or told:
                self._pieces.append(text)
                yield self._event("response.output_text.delta", self._place({"delta": text, "logprobs": told}))
        elif text:
            self._pieces.append(text)
            name = "function_call_arguments" if isinstance(part, Call) else "reasoning_text"
            yield self._event(f"response.{name}.delta", self._place({"delta": text}))

    def _close(self) -> Iterator[bytes]:
        if self._open is None:
            return
        item, text = self._output[-1], "".join(self._pieces)
        if item["type"] == "function_call":
            item["arguments"] = text
            told = {"arguments": text, "name": item["name"]}
            yield self._event("response.function_call_arguments.done", self._place(told))
        else:
            yield from self._close_content(item, text)
        item["status"] = "incomplete" if self.state in _CUT else "completed"
        yield self._event("response.output_item.done", {"output_index": len(self._output) - 1, "item": item})
        self._open, self._pieces, self._tokens = None, [], []

    def _close_content(self, item: dict[str, Any], text: str) -> Iterator[bytes]:
        if item["type"] == "reasoning":
            part: dict[str, Any] = {"type": "reasoning_text", "text": text}
            yield self._event("response.reasoning_text.done", self._place({"text": text}))
        else:
            self._likely()
            part = {"type": "output_text", "text": text, "annotations": [], "logprobs": self._tokens}
            yield self._event("response.output_text.done", self._place({"text": text, "logprobs": self._tokens}))
        item["content"] = [part]
        yield self._event("response.content_part.done", self._place({"part": part}))

    def _place(self, more: Mapping[str, Any]) -> dict[str, Any]:
        """Where an event belongs: its item and, but for a call's, the content in it."""
        item = self._output[-1]
        content = {} if item["type"] == "function_call" else {"content_index": 0}
        return {"item_id": item["id"], "output_index": len(self._output) - 1, **content, **more}

    def _likely(self) -> list[dict[str, Any]]:
        """The logprobs of the tokens that were not told of yet, as chat tells them."""
        told: list[dict[str, Any]] = chat_logprobs(self._untold)["content"] if self._untold else []
        self._untold = []
        self._tokens += told
        return told


def error_told(error: ServingError) -> dict[str, Any]:
    """What a failed response tells of an error: a code of OpenAI's, with ours as `type`."""
    code = _ERROR_CODES.get(error.status, "invalid_prompt" if error.status < 500 else "server_error")
    return {"code": code, "message": error.message, "param": error.param, "type": error.code}


def failed_later(response: bytes, error: ServingError, number: int) -> tuple[bytes, bytes]:
    """A stored response that nobody goes on with: the response as failed, and event `number`, its last."""
    failed = {**orjson.loads(response), "status": "failed", "error": error_told(error)}
    event = {"type": "response.failed", "sequence_number": number, "response": failed}
    return orjson.dumps(failed), b"event: response.failed\ndata: %b\n\n" % orjson.dumps(event)


def _usage(usage: Usage) -> dict[str, object]:
    """In this API's words."""
    return {
        "input_tokens": usage.prompt,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.completion,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning},
        "total_tokens": usage.prompt + usage.completion,
    }


def _begun(part: Part) -> dict[str, Any]:
    """The item that `part` begins, still empty."""
    about: dict[str, Any]
    if isinstance(part, Call):
        about = {"id": f"fc_{secrets.token_hex(16)}", "type": "function_call", "call_id": part.id, "name": part.name}
        return {**about, "arguments": "", "status": "in_progress"}
    if isinstance(part, Reasoning):
        about = {"id": f"rs_{secrets.token_hex(16)}", "type": "reasoning", "summary": []}
    else:
        about = {"id": f"msg_{secrets.token_hex(16)}", "type": "message", "role": "assistant"}
    return {**about, "status": "in_progress", "content": []}


def _content(part: Text | Reasoning) -> dict[str, Any]:
    """The content that `part` begins, still empty."""
    if isinstance(part, Reasoning):
        return {"type": "reasoning_text", "text": ""}
    return {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
