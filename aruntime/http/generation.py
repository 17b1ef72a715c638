"""One admitted request on its way out: an ASGI response that streams, or collects, what a ticket gives.

The status waits for the first output, so a refusal or a deadline before it has its true status. After the first byte the
status is spent: a later error becomes the stream's last event, without [DONE]. A client that leaves is noticed at once,
whatever is under way, and its sequences are cancelled; nothing is sent after that.
"""

import asyncio
import time
from collections.abc import AsyncIterator

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from aruntime.admission.ticket import Output, Ticket
from aruntime.base import log
from aruntime.base.errors import ServingError
from aruntime.control.view import ServedVersion
from aruntime.http.choices import Choice
from aruntime.http.metrics import Meter
from aruntime.wire.answers import Answer, Usage
from aruntime.wire.errors import error_event


class Generation(Response):
    """The answer to one completion request. Owns `ticket` and closes it."""

    def __init__(
        self,
        ticket: Ticket,
        served: ServedVersion,
        answer: Answer,
        choices: list[Choice],
        usage: Usage,
        *,
        stream: bool,
        arrived_s: float,
    ) -> None:
        # No super().__init__: it renders a body, and this one is not known yet.
        self.background = None
        self._ticket = ticket
        self._answer = answer
        self._choices = choices
        self._usage = usage
        self._stream = stream
        self._meter = Meter(served.route, arrived_s, time.monotonic)
        self._headers = [
            (b"x-request-attempt", b"%d" % ticket.attempt),
            (b"x-model-version", b"%s@%d" % (served.name.encode(), served.version)),
        ]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        work = asyncio.ensure_future(self._stream_to(send) if self._stream else self._collect_to(send))
        gone = asyncio.ensure_future(_disconnect(receive))
        try:
            await asyncio.wait({work, gone}, return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                work.result()
            else:
                self._meter.end("client_closed")
                log.info("request.client_closed", request=scope["state"]["request_id"])
        except ServingError as error:
            self._meter.end(error.code)
            raise
        finally:
            self._ticket.close()
            gone.cancel()
            work.cancel()
            await asyncio.wait({work, gone})

    async def _stream_to(self, send: Send) -> None:
        outputs = self._outputs()
        first = await anext(outputs, None)
        await send(self._start(b"text/event-stream; charset=utf-8", (b"cache-control", b"no-cache")))
        data = b"".join(self._answer.begin(i) for i in range(len(self._choices)))
        try:
            if first is not None:
                await send(_body(data + self._events(*first)))
            async for output, text in outputs:
                if event := self._events(output, text):
                    await send(_body(event))
            last = self._answer.done(self._usage)
            self._meter.end("ok")
        except ServingError as error:
            last = error_event(error)
            self._meter.end(error.code)
        await send(_body(last, more=False))

    async def _collect_to(self, send: Send) -> None:
        texts = [""] * len(self._choices)
        async for output, text in self._outputs():
            texts[output.choice] += text
        body = self._answer.whole(texts, [choice.finish_reason for choice in self._choices], self._usage)
        self._meter.end("ok")
        await send(self._start(b"application/json", (b"content-length", b"%d" % len(body))))
        await send(_body(body, more=False))

    async def _outputs(self) -> AsyncIterator[tuple[Output, str]]:
        """Each output with the text that it adds; counts tokens, and ends a choice that reached a stop string."""
        async for output in self._ticket:
            choice = self._choices[output.choice]
            if choice.finish_reason:
                continue
            before = choice.tokens
            text = choice.take(output)
            if choice.stopped:
                self._ticket.cancel_choice(output.choice)
            self._usage.completion += choice.tokens - before
            self._usage.cached = max(self._usage.cached, output.cached_tokens)
            self._meter.output(output.choice)
            yield output, text

    def _events(self, output: Output, text: str) -> bytes:
        event = self._answer.text(output.choice, text) if text else b""
        reason = self._choices[output.choice].finish_reason
        return event + self._answer.end(output.choice, reason) if reason else event

    def _start(self, kind: bytes, other: tuple[bytes, bytes]) -> dict[str, object]:
        headers = [(b"content-type", kind), other, *self._headers]
        return {"type": "http.response.start", "status": 200, "headers": headers}


def _body(data: bytes, *, more: bool = True) -> dict[str, object]:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def _disconnect(receive: Receive) -> None:
    """Return when the client has gone."""
    while (await receive())["type"] != "http.disconnect":
        continue
