"""One admitted request on its way out: an ASGI response that streams, or collects, what a ticket gives.

The status waits for the first output, so a refusal or a deadline before it has its true status. After the first byte
the status is spent: a later error becomes the stream's last event. A client that leaves is noticed at
once, whatever is under way, and its sequences are cancelled; nothing is sent after that.
"""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from aruntime.admission.ask import Ask
from aruntime.admission.ticket import Output, Ticket
from aruntime.base import log
from aruntime.base.errors import ServingError
from aruntime.h2.stream import EXTENSION, Writer
from aruntime.http.choices import Choice
from aruntime.http.errors import as_refusal
from aruntime.http.meter import Count
from aruntime.http.requests import disconnect
from aruntime.wire.answers import AnswerShape, Usage
from aruntime.wire.said import Answered, Said

_STREAM_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]

# Tokens with logprobs that are written while others wait: 20 alternatives each make this some 20 ms.
_SCORED_INLINE_MAX = 1024


class Admitted(Response, ABC):
    """The answer to one admitted request, as long as its client is there. Owns `ticket` and closes it."""

    def __init__(self, ticket: Ticket, request_id: str, count: Count, version: str) -> None:
        # No super().__init__: it renders a body, and this one is not known yet.
        self.background = None
        self._ticket = ticket
        self._request_id = request_id
        self._count = count
        self._marks = [(b"x-request-attempt", b"%d" % ticket.attempt), (b"x-model-version", version.encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = asyncio.ensure_future(self._answer_to(send))
        gone = asyncio.ensure_future(disconnect(receive))
        code = "client_closed"
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                code = "model_error"  # unless it says something else
                code = work.result()
        except ServingError as error:
            code = error.code
            raise
        except TimeoutError:  # how the server says that the client does not read
            code = "client_stalled"
        except OSError:  # how some servers say that the client has gone
            code = "client_closed"
        finally:
            if code in ("client_closed", "client_stalled"):
                log.info(f"request.{code}", request=self._request_id)
            self.drop(code)
            gone.cancel()
            work.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    def drop(self, code: str) -> None:
        """End what was admitted; `code` is how it ended."""
        self._ticket.close()
        self._count.end(code)

    @abstractmethod
    async def _answer_to(self, send: Send) -> str:
        """Send the answer; returns how the request ended."""

    async def _send_whole(self, send: Send, body: bytes, headers: list[tuple[bytes, bytes]]) -> None:
        await send(self._start([*headers, (b"content-length", b"%d" % len(body))]))
        await send(_body(body, more=False))

    def _start(self, headers: list[tuple[bytes, bytes]]) -> dict[str, object]:
        return {"type": "http.response.start", "status": 200, "headers": [*headers, *self._marks]}


class Generation(Admitted):
    """The answer to one request of a language model."""

    def __init__(
        self,
        ticket: Ticket,
        ask: Ask,
        answer: AnswerShape,
        choices: Sequence[Choice],
        count: Count,
        *,
        version: str,
        stream: bool | None,
    ) -> None:
        super().__init__(ticket, ask.request_id, count, version)
        self._ask = ask
        self._answer = answer
        self._choices = choices
        self._stream = stream
        self._writer: Writer | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._writer = scope.get("extensions", {}).get(EXTENSION)
        await super().__call__(scope, receive, send)

    async def _answer_to(self, send: Send) -> str:
        return await (self._stream_to(send) if self._stream else self._collect_to(send))

    async def _stream_to(self, send: Send) -> str:
        """Send events as outputs come; returns how the request ended."""
        started = False
        code = "ok"
        try:
            async for output in self._ticket:
                event = self._event(output) if started else self._answer.begin() + self._event(output)
                if not started:
                    await send(self._start(_STREAM_HEADERS))
                    started = True
                if event:
                    await send(_body(event))
                if self._writer is not None:
                    await self._write_to(self._writer)
            last = self._answer.done(self._usage())
        except Exception as error:
            if not started or isinstance(error, OSError):
                raise
            refusal = as_refusal(error, self._ask.request_id)
            code, last = refusal.code, self._answer.failed(refusal)
        await send(_body(last, more=False))
        return code

    async def _write_to(self, writer: Writer) -> None:
        """Write events as outputs come, without waking up for each, until they end or the client does not keep up.

        Then wait for it: meanwhile nobody reads the ticket, which pauses its choices.
        """
        write, event = writer.write, self._event
        await self._ticket.pour(lambda output: write(event(output)))
        await writer.drained()

    async def _collect_to(self, send: Send) -> str:
        """Send the whole answer when the last output has come; returns how the request ended."""
        said = [Said() for _ in self._choices]
        async for output in self._ticket:
            said[output.choice].add(self._take(output))
        answers = [
            Answered(all_of_it, choice.finish)
            for all_of_it, choice in zip(said, self._choices, strict=True)
            if choice.finish is not None  # it is not: a ticket ends when its choices have
        ]
        tokens = sum(len(one.said.tokens) for one in answers)
        if tokens > _SCORED_INLINE_MAX:
            body = await asyncio.to_thread(self._answer.whole, answers, self._usage())
        else:
            body = self._answer.whole(answers, self._usage())
        await self._send_whole(send, body, self._answer.headers)
        return "ok"

    def _event(self, output: Output) -> bytes:
        said = self._take(output)
        event = self._answer.add(output.choice, said) if said.parts or said.tokens else b""
        finish = self._choices[output.choice].finish
        return event + self._answer.end(output.choice, finish) if finish else event

    def _take(self, output: Output) -> Said:
        """What `output` adds. A choice that reached a stop string is ended in the engine too."""
        choice = self._choices[output.choice]
        said = choice.take(output)
        self._count.output(output.choice, bool(said.parts))
        if choice.finish:
            self._count.answer(output.choice, choice.tokens, choice.finish.reason)
        if choice.stopped:
            self._ticket.cancel_choice(output.choice)
        return said

    def _usage(self) -> Usage:
        n = self._ask.n
        cached = [choice.cached_tokens for choice in self._choices]
        return Usage(
            prompt=sum(map(len, self._ask.prompts)),
            completion=sum(choice.tokens for choice in self._choices),
            reasoning=sum(choice.reasoning_tokens for choice in self._choices),
            cached=sum(max(cached[first : first + n]) for first in range(0, len(cached), n)),
        )


def _body(data: bytes, *, more: bool = True) -> dict[str, object]:
    return {"type": "http.response.body", "body": data, "more_body": more}
