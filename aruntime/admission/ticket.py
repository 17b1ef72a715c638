"""What admission gives to http: await its outputs, leave it to cancel.

    open ──tokens──► open ──every choice ended──► done
      └──an error, the deadline, close()──► done          in each case every sequence still running is cancelled

A ticket is fed by its route, in the same event loop, and never loses or repeats a token. Who reads too slowly has the
choice paused, so what waits here is bounded; and it goes on when it has been read.
"""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Protocol, Self

from aruntime.base.errors import DeadlineExceeded, Draining, ModelError, Overloaded, ServingError
from aruntime.queue.records import FinishReason, RecordKind
from aruntime.queue.steering import TOP_LOGPROBS_MAX

# Ends that are an answer. Every other end is an error of the whole request.
_ANSWERS = (FinishReason.STOP, FinishReason.LENGTH)
# Tokens of one choice that nobody has read yet, when it is paused. A reader takes all there is at once.
PAUSE_TOKENS = 256
_NO_ALTERNATIVES: list[tuple[int, float]] = []  # one for all tokens that have none


class Sequences(Protocol):
    """The sequences of one ticket, by choice: what it may ask of the engine."""

    def cancel(self, choice: int) -> None: ...
    def pause(self, choice: int) -> None: ...
    def resume(self, choice: int) -> None: ...


@dataclass(slots=True)
class Scored:
    """A token of the prompt, its logprob, and the likeliest tokens at its place with theirs, as for outputs."""

    token_id: int
    logprob: float
    alternatives: list[tuple[int, float]]


@dataclass(slots=True)
class Output:
    """New tokens of one choice, the logprob of each (natural, before temperature), and how it ended if it has.

    `alternatives` are, for each token, the likeliest ones at its place, the likeliest first; empty where nobody asked.
    `prompt` comes with the first token, if it was asked for: the prompt's tokens from the second on, since nothing
    foretells the first. `result` comes with the end of a tensor model's answer, its outputs; or with a vector's.
    """

    choice: int
    token_ids: list[int]
    finish: FinishReason = FinishReason.NONE
    cached_tokens: int = 0
    logprobs: list[float] = field(default_factory=list)
    alternatives: list[list[tuple[int, float]]] = field(default_factory=list)
    prompt: list[Scored] = field(default_factory=list)
    result: bytes = b""


@dataclass(slots=True)
class _Told:
    """What has been told of one choice's next token, which has not come yet."""

    alternatives: list[tuple[int, float]] = field(default_factory=list)
    prompt: list[Scored] = field(default_factory=list)

    def take_alternatives(self) -> list[tuple[int, float]]:
        taken, self.alternatives = self.alternatives, []
        return taken


class Ticket:
    """One admitted request. Iterate for its outputs; a ServingError ends the iteration.

    `on_end(output tokens, error)` is called once, when the last choice has ended, however it did.
    """

    attempt = 1

    def __init__(
        self,
        choices: int,
        sequences: Sequences,
        on_end: Callable[[int, ServingError | None], None] = lambda _tokens, _error: None,
    ) -> None:
        self._open = set(range(choices))
        self._sequences = sequences
        self._on_end = on_end
        self._read = 0  # tokens handed out
        self._paused: set[int] = set()
        self._pending: dict[int, Output] = {}
        self._told: dict[int, _Told] = {}
        self._error: ServingError | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._taker: Callable[[Output], bool] | None = None
        self._calling = False
        self._timer: asyncio.TimerHandle | None = None

    def expire_at(self, deadline_s: float, timeout_s: float) -> None:
        """Fail with DeadlineExceeded at `deadline_s` on the loop's clock, whatever the engine does."""
        message = f"the deadline passed: {timeout_s:.3g} s were allowed"
        loop = asyncio.get_running_loop()
        self._timer = loop.call_at(deadline_s, lambda: self.fail(DeadlineExceeded(message)))

    def feed(
        self,
        choice: int,
        token: int,
        finish: FinishReason,
        cached_tokens: int,
        retry_after_s: float = 1.0,
        logprob: float = 0.0,
        result: bytes = b"",
    ) -> None:
        """Take one record of `choice`: a token (or -1), and its end, after which a 503 says `retry_after_s`."""
        if choice not in self._open:
            return
        if finish and finish not in _ANSWERS:  # an end by an error comes without a token
            self.fail(_error_of(finish, retry_after_s))
            return
        output = self._pending.get(choice)
        if output is None:
            output = self._pending[choice] = Output(choice, [], cached_tokens=cached_tokens)
        elif len(output.token_ids) >= PAUSE_TOKENS and choice not in self._paused:
            self._paused.add(choice)
            self._sequences.pause(choice)
        told = self._told.pop(choice, None) if self._told else None
        if token >= 0:
            output.token_ids.append(token)
            output.logprobs.append(logprob)
            output.alternatives.append(told.alternatives if told else _NO_ALTERNATIVES)
        if told:
            output.prompt += told.prompt
        if finish:
            output.finish, output.result = finish, result
            self._ended(choice)
        self._wake()

    def tell(self, choice: int, kind: RecordKind, token: int, logprob: float) -> None:
        """Take what is told before a token of `choice`: an alternative to it, or a token of the prompt."""
        if choice not in self._open:
            return
        told = self._told.setdefault(choice, _Told())
        if kind is RecordKind.PROMPT_TOKEN:
            told.prompt.append(Scored(token, logprob, told.take_alternatives()))
        elif len(told.alternatives) < TOP_LOGPROBS_MAX:
            told.alternatives.append((token, logprob))

    def fail(self, error: ServingError) -> None:
        """End the request with `error`, after the outputs that came before it."""
        if self._open:
            self._error = error
            self.close()
            self._wake()

    def cancel_choice(self, choice: int) -> None:
        """End one choice here and in the engine; nothing more of it will be seen."""
        if choice in self._open:
            self._sequences.cancel(choice)
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
        return self._next()

    async def pour(self, take: Callable[[Output], bool]) -> None:
        """Have `take` called with every output as it comes, until it says False or the ticket ends.

        It is called in the loop's own turn, and the caller sleeps: a step that brings a token to each of many tickets
        wakes none of their tasks. What it raises is raised here. Iterate afterwards: for the rest, or for the error.
        """
        self._waiter, self._taker = asyncio.get_running_loop().create_future(), take
        try:
            self._call()
            await self._waiter
        finally:
            self._waiter = self._taker = None

    def _call(self) -> None:
        """Hand what there is to whoever takes it."""
        self._calling = False
        if self._taker is None or self._waiter is None or self._waiter.done():
            return
        try:
            while self._pending:
                if not self._taker(self._next()):
                    self._waiter.set_result(None)
                    return
        except Exception as error:
            self._waiter.set_exception(error)
        else:
            if not self._open:
                self._waiter.set_result(None)

    def _next(self) -> Output:
        output = self._pending.pop(next(iter(self._pending)))
        self._read += len(output.token_ids)
        if self._paused and output.choice in self._paused:
            self._paused.discard(output.choice)
            if output.choice in self._open:
                self._sequences.resume(output.choice)
        return output

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
            self._on_end(self._read + sum(len(output.token_ids) for output in self._pending.values()), self._error)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _wake(self) -> None:
        if self._waiter is None or self._waiter.done():
            return
        if self._taker is None:
            self._waiter.set_result(None)
        elif not self._calling:
            self._calling = True
            self._waiter.get_loop().call_soon(self._call)


def _error_of(finish: FinishReason, retry_after_s: float) -> ServingError:
    match finish:
        case FinishReason.DEADLINE:
            return DeadlineExceeded("the deadline passed")
        case FinishReason.OVERLOADED:
            return Overloaded("the engine's queue is full", retry_after_s=retry_after_s)
        case FinishReason.DRAINING:
            return Draining("the engine is shutting down", retry_after_s=retry_after_s)
        case FinishReason.CANCELLED:
            return ModelError("the sequence was cancelled by the engine")
        case FinishReason.GRAMMAR:
            return ModelError("what the answer must look like could not be followed any further")
        case _:
            return ModelError("the model failed on this request")
