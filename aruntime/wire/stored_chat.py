"""A chat's answer that is kept: written as any other, and remembered, so that it can be told whole when it has ended.

Its stream is resumed by the numbers that the events have as `id`; one that is cut short ends with an error.
"""

from collections.abc import Sequence
from typing import Any

import orjson

from aruntime.base.errors import ModelError, ServingError
from aruntime.wire.answers import Answer, Usage
from aruntime.wire.errors import error_event
from aruntime.wire.said import Answered, Finish, Said

PREFIX = "chatcmpl-"


class StoredChat(Answer):
    """OpenAI's shape, remembered. `state` is how it is, `response()` the answer as it is now."""

    def __init__(self, *, choices: int, **more: Any) -> None:
        super().__init__(chat=True, choices=choices, **more)
        self.state = "in_progress"
        self._all = [Said() for _ in range(choices)]
        self._finishes = [Finish("stop") for _ in range(choices)]
        self._usage = Usage(0, 0)

    def add(self, choice: int, said: Said) -> bytes:
        """What is new of a choice."""
        self._all[choice].add(said)
        return super().add(choice, said)

    def end(self, choice: int, finish: Finish) -> bytes:
        """The last event of a choice."""
        self._finishes[choice] = finish
        return super().end(choice, finish)

    def done(self, usage: Usage) -> bytes:
        """The stream's end."""
        self.state, self._usage = "completed", usage
        return super().done(usage)

    def whole(self, answers: Sequence[Answered], usage: Usage) -> bytes:
        """The answer of a request that is not streamed."""
        self.state = "completed"
        return super().whole(answers, usage)

    def failed(self, error: ServingError) -> bytes:
        """The stream's end when the status is spent."""
        self.state = "failed"
        return super().failed(error)

    def cancelled(self) -> bytes:
        """The stream's end when it was forgotten meanwhile."""
        self.state = "cancelled"
        return super().failed(ModelError("this answer was deleted"))

    def response(self) -> dict[str, object]:
        """The answer as it is now; it is told once it has ended."""
        if self.state != "completed":
            return {"id": self.id}
        answers = [Answered(said, finish) for said, finish in zip(self._all, self._finishes, strict=True)]
        return self.told(answers, self._usage)


def failed_later(answer: bytes, error: ServingError) -> tuple[bytes, bytes]:
    """A stored chat that nobody goes on with: it, and the event that ends its stream."""
    return answer, error_event(error)


def deleted(id_: str) -> bytes:
    """What is told of a chat that was forgotten."""
    return orjson.dumps({"object": "chat.completion.deleted", "id": id_, "deleted": True})
