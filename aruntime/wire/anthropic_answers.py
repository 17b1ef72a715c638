"""Anthropic's shape of an answer: a message whole, or as the events of a stream.

    message_start  ping  (content_block_start  content_block_delta…  content_block_stop)…  message_delta  message_stop

A block is text, a thought or a call. The stream's end has the final usage; at its start the prompt's tokens are all
counted as new, for which of them were cached is not told before.
"""

import contextlib
import json
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from pydantic_core import from_json

from aruntime.base.errors import ServingError
from aruntime.wire.answers import JSON, AnswerShape, Usage
from aruntime.wire.errors import error_event_anthropic
from aruntime.wire.said import Answered, Call, Finish, Part, Reasoning, Said

_MESSAGE_STOP = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_PING = b'event: ping\ndata: {"type":"ping"}\n\n'


class MessageAnswer(AnswerShape):
    """The answer to one request, which has one choice.

    `prompt_tokens` are the request's; `cut` says that the context leaves room for fewer tokens than it asked for.
    """

    def __init__(self, *, request_id: str, model: str, prompt_tokens: int, cut: bool) -> None:
        self.headers = [JSON]
        self._request_id = request_id
        self._message = {"id": f"msg_{request_id}", "type": "message", "role": "assistant", "model": model}
        self._prompt_tokens = prompt_tokens
        self._at_length = "model_context_window_exceeded" if cut else "max_tokens"
        self._blocks = 0
        self._open: type[Part] | int | None = None  # what the block that is not yet over is of: a call's is its index
        self._finish = Finish("stop")

    def begin(self) -> bytes:
        """The events before any block."""
        so_far = {"content": [], **self._ends(None), "usage": _usage(Usage(self._prompt_tokens, 0))}
        return _event("message_start", {"message": {**self._message, **so_far}}) + _PING

    def add(self, choice: int, said: Said) -> bytes:
        """What is new, in blocks as it comes."""
        return b"".join([event for part in said.parts for event in self._part(part)])

    def end(self, choice: int, finish: Finish) -> bytes:
        """The last block's end."""
        self._finish = finish
        return b"".join(self._close())

    def done(self, usage: Usage) -> bytes:
        """How it ended, and what it took."""
        how = {"delta": self._ends(self._finish), "usage": _usage(usage)}
        return _event("message_delta", how) + _MESSAGE_STOP

    def failed(self, error: ServingError) -> bytes:
        """The stream's end when the status is spent."""
        return error_event_anthropic(error, self._request_id)

    def whole(self, answers: Sequence[Answered], usage: Usage) -> bytes:
        """The message of a request that is not streamed."""
        (one,) = answers
        content = [self._block(parts) for parts in _in_blocks(one.said.parts)]
        ends = self._ends(one.finish)
        return orjson.dumps({**self._message, "content": content, **ends, "usage": _usage(usage, tier=True)})

    def _ends(self, finish: Finish | None) -> dict[str, object]:
        reason = None
        if finish is not None:
            reason = {"length": self._at_length, "tool_calls": "tool_use"}.get(finish.reason, "end_turn")
            reason = "stop_sequence" if finish.stop else reason
        return {"stop_reason": reason, "stop_sequence": finish.stop or None if finish else None}

    def _part(self, part: Part) -> Iterator[bytes]:
        if self._open != (kind := _kind(part)):
            yield from self._close()
            self._open = kind
            yield _event("content_block_start", {"index": self._blocks, "content_block": _begun(part)})
        if (delta := _delta(part)) is not None:
            yield _event("content_block_delta", {"index": self._blocks, "delta": delta})

    def _close(self) -> Iterator[bytes]:
        if self._open is None:
            return
        if self._open is Reasoning:
            signed = {"type": "signature_delta", "signature": self._signature}
            yield _event("content_block_delta", {"index": self._blocks, "delta": signed})
        yield _event("content_block_stop", {"index": self._blocks})
        self._open = None
        self._blocks += 1

    def _block(self, parts: list[Part]) -> dict[str, object]:
        """One block of a whole message, of its pieces."""
        block = _begun(parts[0])
        if isinstance(parts[0], Call):
            return {**block, "input": _input("".join([part.arguments for part in parts if isinstance(part, Call)]))}
        text = "".join([part.text for part in parts if not isinstance(part, Call)])
        if isinstance(parts[0], Reasoning):
            return {**block, "thinking": text, "signature": self._signature}
        return {**block, "text": text}

    @property
    def _signature(self) -> str:
        """A thought's: some clients drop those that have none. It signs nothing, and nothing checks it."""
        return f"{self._message['id']}"


def _usage(usage: Usage, *, tier: bool = False) -> dict[str, object]:
    """In Anthropic's words, where tokens that came from the cache are no input tokens."""
    return {
        "input_tokens": usage.prompt - usage.cached,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached,
        "output_tokens": usage.completion,
        "output_tokens_details": {"thinking_tokens": usage.reasoning},
        **({"service_tier": "standard"} if tier else {}),
    }


def _kind(part: Part) -> type[Part] | int:
    return part.index if isinstance(part, Call) else type(part)


def _begun(part: Part) -> dict[str, object]:
    """The block that `part` begins, still empty."""
    if isinstance(part, Call):
        return {"type": "tool_use", "id": part.id, "name": part.name, "input": {}}
    if isinstance(part, Reasoning):
        return {"type": "thinking", "thinking": "", "signature": ""}
    return {"type": "text", "text": ""}


def _delta(part: Part) -> dict[str, str] | None:
    """What `part` adds to its block, None for nothing."""
    if isinstance(part, Call):
        return {"type": "input_json_delta", "partial_json": part.arguments} if part.arguments else None
    if isinstance(part, Reasoning):
        return {"type": "thinking_delta", "thinking": part.text} if part.text else None
    return {"type": "text_delta", "text": part.text} if part.text else None


def _in_blocks(parts: Sequence[Part]) -> list[list[Part]]:
    """Pieces that are of one block, together."""
    blocks: list[list[Part]] = []
    for part in parts:
        if blocks and _kind(blocks[-1][0]) == _kind(part):
            blocks[-1].append(part)
        else:
            blocks.append([part])
    return blocks


def _input(arguments: str) -> orjson.Fragment:
    """The arguments of a call as they were said, its numbers digit by digit; as far as they were, if they were cut."""
    for partial in ("off", "trailing-strings"):
        with contextlib.suppress(ValueError):
            said = from_json(arguments, allow_partial=partial, allow_inf_nan=False)
            if isinstance(said, dict):
                return orjson.Fragment(arguments if partial == "off" else json.dumps(said, allow_nan=False))
    return orjson.Fragment(b"{}")


def _event(name: str, data: dict[str, Any]) -> bytes:
    return b"event: %b\ndata: %b\n\n" % (name.encode(), orjson.dumps({"type": name, **data}))
