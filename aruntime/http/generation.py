"""One admitted request on its way out: an ASGI response that streams, or collects, what a ticket gives.

The status waits for the first output, so a refusal or a deadline before it has its true status. After the first byte
the status is spent: a later error becomes the stream's last event, without [DONE]. A client that leaves is noticed at
once, whatever is under way, and its sequences are cancelled; nothing is sent after that.
"""

import asyncio
from collections.abc import Sequence

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from aruntime.admission.ask import Ask
from aruntime.admission.ticket import Output, Ticket
from aruntime.base import log
from aruntime.base.errors import ServingError
from aruntime.http.choices import Choice
from aruntime.http.errors import as_refusal
from aruntime.http.meter import Count, Meter
from aruntime.wire.answers import Answer, Usage
from aruntime.wire.errors import error_event

_STREAM_HEADERS = [(b"content-type", b"text/event-stream; charset=utf-8"), (b"cache-control", b"no-cache")]


class Generation(Response):
    """The answer to one completion request. Owns `ticket` and closes it."""

    def __init__(
        self,
        ticket: Ticket,
        ask: Ask,
        answer: Answer,
        choices: Sequence[Choice],
        meter: Meter,
        *,
        version: str,
        stream: bool | None,
    ) -> None:
        # No super().__init__: it renders a body, and this one is not known yet.
        self.background = None
        self._ticket = ticket
        self._ask = ask
        self._answer = answer
        self._choices = choices
        self._meter = meter
        self._stream = stream
        self._marks = [(b"x-request-attempt", b"%d" % ticket.attempt), (b"x-model-version", version.encode())]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = asyncio.ensure_future(self._stream_to(send) if self._stream else self._collect_to(send))
        gone = asyncio.ensure_future(_disconnect(receive))
        code = "client_closed"
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                code = "model_error"  # unless it says something else
                code = work.result()
            else:
                log.info("request.client_closed", request=self._ask.request_id)
        except ServingError as error:
            code = error.code
            raise
        except OSError:  # how some servers say that the client has gone
            code = "client_closed"
        finally:
            self._ticket.close()
            self._meter.end(code)
            gone.cancel()
            work.cancel()
            await asyncio.gather(work, gone, return_exceptions=True)

    async def _stream_to(self, send: Send) -> str:
        """Send events as outputs come; returns how the request ended."""
        started = False
        code = "ok"
        try:
            async for output in self._ticket:
                event = self._event(output)
                if not started:
                    await send(self._start(_STREAM_HEADERS))
                    started, event = True, self._answer.begin() + event
                if event:
                    await send(_body(event))
            last = self._answer.done(self._usage())
        except Exception as error:
            if not started or isinstance(error, OSError):
                raise
            refusal = as_refusal(error, self._ask.request_id)
            code, last = refusal.code, error_event(refusal)
        await send(_body(last, more=False))
        return code

    async def _collect_to(self, send: Send) -> str:
        """Send the whole answer when the last output has come; returns how the request ended."""
        texts: list[list[str]] = [[] for _ in self._choices]
        async for output in self._ticket:
            texts[output.choice].append(self._take(output))
        reasons = [choice.finish_reason for choice in self._choices]
        body = self._answer.whole(["".join(pieces) for pieces in texts], reasons, self._usage())
        await send(self._start([(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]))
        await send(_body(body, more=False))
        return "ok"

    def _event(self, output: Output) -> bytes:
        text = self._take(output)
        event = self._answer.text(output.choice, text) if text else b""
        reason = self._choices[output.choice].finish_reason
        return event + self._answer.end(output.choice, reason) if reason else event

    def _take(self, output: Output) -> str:
        return take(output, self._ticket, self._choices, self._meter)

    def _usage(self) -> Usage:
        n = self._ask.n
        cached = [choice.cached_tokens for choice in self._choices]
        return Usage(
            prompt=sum(map(len, self._ask.prompts)),
            completion=sum(choice.tokens for choice in self._choices),
            cached=sum(max(cached[first : first + n]) for first in range(0, len(cached), n)),
        )

    def _start(self, headers: list[tuple[bytes, bytes]]) -> dict[str, object]:
        return {"type": "http.response.start", "status": 200, "headers": [*headers, *self._marks]}


def take(output: Output, ticket: Ticket, choices: Sequence[Choice], count: Count) -> str:
    """The text that `output` adds, counted. A choice that reached a stop string is ended in the engine too."""
    choice = choices[output.choice]
    text = choice.take(output)
    count.output(output.choice, text)
    if choice.finish_reason:
        count.answer(output.choice, choice.tokens, choice.finish_reason)
    if choice.stopped:
        ticket.cancel_choice(output.choice)
    return text


async def discard(ticket: Ticket, choices: Sequence[Choice], count: Count, request_id: str) -> None:
    """Read a mirrored request to its end and count it as if somebody had asked; nothing is sent. Closes `ticket`."""
    code = "client_closed"  # cancelled
    try:
        async for output in ticket:
            take(output, ticket, choices, count)
        code = "ok"
    except Exception as error:
        code = as_refusal(error, request_id).code
    finally:
        ticket.close()
        count.end(code)


def _body(data: bytes, *, more: bool = True) -> dict[str, object]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def _disconnect(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        continue
