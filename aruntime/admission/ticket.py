"""What admission gives to http: await its outputs, leave it to cancel.

    open ──tokens──► open ──every choice ended──► done
      └──an error, the deadline, close()──► done          in each case every sequence still running is cancelled

A ticket is fed by its route, in the same event loop, and never loses or repeats a token.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from aruntime.base.errors import DeadlineExceeded, Draining, ModelError, Overloaded, ServingError
from aruntime.queue.records import FinishReason

# Ends that are an answer. Every other end is an error of the whole request.
_ANSWERS = (FinishReason.NONE, FinishReason.STOP, FinishReason.LENGTH)


@dataclass(slots=True)
class Output:
    """New tokens of one choice, and how it ended if it has."""

    choice: int
    token_ids: list[int]
    finish: FinishReason = FinishReason.NONE
    cached_tokens: int = 0


class Ticket:
    """One admitted request. Iterate for its outputs; a ServingError ends the iteration.

    `cancel(choice)` is called for each sequence that must stop early; it is the route's.
    """

    attempt = 1

    def __init__(self, choices: int, cancel: Callable[[int], None]) -> None:
        self._open = set(range(choices))
        self._cancel = cancel
        self._pending: dict[int, Output] = {}
        self._error: ServingError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._timer: asyncio.TimerHandle | None = None

    def expire_at(self, deadline_s: float, timeout_s: float) -> None:
        """Fail with DeadlineExceeded at `deadline_s` on the loop's clock, whatever the engine does."""
        message = f"the deadline passed: {timeout_s:.3g} s were allowed"
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(deadline_s, lambda: self.fail(DeadlineExceeded(message)))

    def feed(self, choice: int, token: int, finish: FinishReason, cached_tokens: int) -> None:
        """Take one record of `choice`: a token (or -1), and its end."""
        if choice not in self._open:
            return
        if finish not in _ANSWERS:  # an end by an error comes without a token
            self.fail(_error_of(finish))
            return
        output = self._pending.get(choice)
        if output is None:
            output = self._pending[choice] = Output(choice, [], cached_tokens=cached_tokens)
        if token >= 0:
            output.token_ids.append(token)
        output.finish = finish
        if finish is not FinishReason.NONE:
            self._ended(choice)
        self._wake()

    def fail(self, error: ServingError) -> None:
        """End the request with `error`, after the outputs that came before it."""
        if self._open:
            self._error = error
            self.close()
            self._wake()

    def cancel_choice(self, choice: int) -> None:
        """End one choice here and in the engine; nothing more of it will be seen."""
        if choice in self._open:
            self._cancel(choice)
            self._ended(choice)
            self._wake()

    def close(self) -> None:
        """Cancel all that still runs. Safe to call twice."""
        for choice in list(self._open):
            self.cancel_choice(choice)
        self._disarm()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Output:
        while not self._pending:
            if self._error is not None:
                raise self._error
            if not self._open:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        return self._pending.pop(next(iter(self._pending)))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _ended(self, choice: int) -> None:
        self._open.discard(choice)
        if not self._open:
            self._disarm()

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


def _error_of(finish: FinishReason) -> ServingError:
    match finish:
        case FinishReason.DEADLINE:
            return DeadlineExceeded("the deadline passed")
        case FinishReason.OVERLOADED:
            return Overloaded("the engine's queue is full", retry_after_s=1.0)
        case FinishReason.DRAINING:
            return Draining("the engine is shutting down", retry_after_s=1.0)
        case FinishReason.CANCELLED:
            return ModelError("the sequence was cancelled by the engine")
        case _:
            return ModelError("the model failed on this request")
