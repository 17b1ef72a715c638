"""Hypercorn's HTTP/1.1, with what it leaves unsaid and without what it should not take."""

import asyncio
import contextlib
import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any, cast

import h11
from hypercorn.events import Closed, RawData
from hypercorn.events import Event as Received
from hypercorn.protocol.events import Event, Response, StreamClosed
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.protocol.http_stream import HTTPStream

from aruntime.h2.limits import H2Limits
from aruntime.h2.stream import EXTENSION
from aruntime.h2.trifles import DATA, Trifles, price

# RFC 9112, 2.2 and 5.2: what others take for the end of a line or for the next one. Requests are smuggled with them.
_ODD_LINE = re.compile(rb"(?<!\r)\n|\n[ \t]")
_HEAD_END = b"\r\n\r\n"


class Http1(H11Protocol):
    """An answer that comes before its request's end says that the connection ends with it (RFC 9112, 9.6).

    So does every answer while `leaving()`: the next request is then another connection's.

    A request has so long for its headers. An upgrade to HTTP/2 is not offered (RFC 9113 has none): the answer is
    HTTP/1.1's. It is a `stream.Writer` for the application whose answer is under way.
    """

    def __init__(
        self, limits: H2Limits, transport: asyncio.Transport, *connection: Any, leaving: Callable[[], bool]
    ) -> None:
        super().__init__(*connection)
        self._transport = transport
        self._leaving = leaving
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._strict = _Strict(limits, self._loop, self.config.h11_max_incomplete_size)
        self.connection = self._strict
        self._refused = False  # the last word has been said
        self._head_timer: asyncio.TimerHandle | None = None

    async def handle(self, event: Received) -> None:
        """Take bytes of the client, or hear that there are no more."""
        await super().handle(event)
        heading = self.connection.their_state is h11.IDLE and bool(self.connection.trailing_data[0])
        if not heading or self._refused or isinstance(event, Closed):
            self._stop_timer()
        elif self._head_timer is None:
            self._head_timer = self._loop.call_later(
                self._limits.stall_s_max, self.task_group.spawn, self._refuse_the_slow
            )

    def write(self, data: bytes) -> bool:
        """Take a piece of the answer's body. False when its writer should wait: `drained`."""
        self._strict.trifles.earn(1)
        with contextlib.suppress(h11.LocalProtocolError):  # what the client says has broken the connection
            framed = self.connection.send(h11.Data(data=data))
            if framed and not self._transport.is_closing():
                self._transport.write(framed)
        return self._transport.get_write_buffer_size() <= self._limits.pending_bytes_max

    async def drained(self) -> None:
        """Wait until the network takes more. TimeoutError when the client does not read."""
        await self.send(RawData(b""))

    @property
    def amid_request(self) -> bool:
        """Whether the client may still be sending a request that has its answer. One that was refused may not."""
        return self.connection.their_state in (h11.SEND_BODY, h11.ERROR) and not (self._refused or self._strict.refused)

    async def stream_send(self, event: Event) -> None:
        """Send a part of an answer."""
        self._strict.trifles.earn(1)
        if isinstance(event, StreamClosed):
            self._drop_body()
        if isinstance(event, Response) and (self._leaving() or self.connection.their_state is h11.SEND_BODY):
            event = replace(event, headers=[*event.headers, (b"connection", b"close")])
        await super().stream_send(event)

    async def _create_stream(self, request: h11.Request) -> None:
        await super()._create_stream(request)
        if isinstance(self.stream, HTTPStream):
            cast(dict[str, Any], self.stream.scope["extensions"])[EXTENSION] = self

    def _drop_body(self) -> None:
        """The application has ended: whoever waits to hand it more of a request waits no more."""
        if isinstance(self.stream, HTTPStream):
            queue = cast("asyncio.Queue[Any]", cast(Any, self.stream.app_put).__self__)
            while not queue.empty():
                queue.get_nowait()

    async def _check_protocol(self, event: h11.Request) -> None:
        pass

    async def _send_h11_event(self, event: Any) -> None:
        if not self._refused:
            await super()._send_h11_event(event)

    async def _send_error_response(self, status_code: int) -> None:
        await super()._send_error_response(status_code)
        self._refused = True

    async def _refuse_the_slow(self) -> None:
        await self._send_error_response(408)
        await self.send(Closed())

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None


class _Strict(h11.Connection):
    """h11, which takes some shapes of a request that others take for two, and any number of little chunks."""

    def __init__(self, limits: H2Limits, loop: asyncio.AbstractEventLoop, head_bytes_max: int) -> None:
        super().__init__(h11.SERVER, head_bytes_max)
        self.trifles = Trifles(limits.trifles_max, limits.trifles_per_s, loop.time())
        self._loop = loop
        self.refused = False  # nothing more of what the client says is read

    def next_event(self) -> Any:
        """The next part of what the client says; RemoteProtocolError once, if it must not be said."""
        if self.refused:
            return h11.NEED_DATA
        if self.their_state is h11.IDLE and _ODD_LINE.search(self.trailing_data[0].partition(_HEAD_END)[0]):
            self._refuse("a line of the headers ends or goes on in an odd way", 400)
        event = super().next_event()
        if isinstance(event, h11.Request):
            names = [name for name, _ in event.headers]
            if b"transfer-encoding" in names and b"content-length" in names:
                self._refuse("transfer-encoding and content-length", 400)
        elif isinstance(event, h11.Data) and self.trifles.are_too_many(price(DATA, len(event.data)), self._loop.time()):
            self._refuse("too many little chunks", 429)
        return event

    def _refuse(self, why: str, status: int) -> None:
        self.refused = True
        raise h11.RemoteProtocolError(why, error_status_hint=status)
