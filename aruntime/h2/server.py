"""Takes the place of Hypercorn's server of one connection, and chooses its protocol.

TLS, ALPN "h2" ───────────────────────┐
the first bytes are HTTP/2's preface ─┴─► Connection
a line that ends in HTTP/1.x ───────────► Hypercorn's HTTP/1.1, mended
anything else, or one too many ─────────► closed without a word (RFC 9113, 3.4)
"""

import asyncio
import contextlib
import re
from collections import Counter
from typing import Any, ClassVar, cast

import hypercorn.asyncio.run
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.asyncio.worker_context import WorkerContext
from hypercorn.events import Closed, Event, RawData
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from aruntime.h2.connection import Connection
from aruntime.h2.http1 import Http1
from aruntime.h2.limits import H2Limits
from aruntime.h2.protocol import PREFACE

_REQUEST_LINE = re.compile(rb"[^\n]* HTTP/1\.[0-9]\r?\n")


class Server(TCPServer):
    """Serves one connection, as Hypercorn calls it."""

    limits: ClassVar[H2Limits] = H2Limits()
    open: ClassVar[Counter[WorkerContext]] = Counter()  # connections of each listener, of either protocol
    _leaving = False
    _connection: Connection | None = None  # of HTTP/2
    _rest: asyncio.Timeout | None = None  # of HTTP/1.1, until its next request

    async def run(self) -> None:
        """Serve until the connection is closed and the application has done with it."""
        self.open[self.context] += 1
        try:
            if self.open[self.context] > self.limits.connections_max:
                return
            tls = self.writer.get_extra_info("ssl_object")
            if tls is not None and tls.selected_alpn_protocol() == "h2":
                return await self._serve_http2(b"", "https")
            begun = await self._first_bytes()
            if begun.startswith(PREFACE):
                return await self._serve_http2(begun, "http" if tls is None else "https")
            if _REQUEST_LINE.match(begun) or len(begun) > self.config.h11_max_incomplete_size:
                await self._serve_http1(begun, tls is not None)
        except OSError:
            pass
        finally:
            self.open[self.context] -= 1
            if self._connection is None:  # else its transport has told the connection of its end, and not the writer
                await self._close()

    def leave(self) -> None:
        """This process takes no more connections: close this one as soon as nobody is disturbed.

        HTTP/2 when no request runs, HTTP/1.1 with the next answer; either when it has rested a little.
        """
        self._leaving = True
        if self._connection is not None:
            self._connection.leave()
        if self._rest is not None:
            self._rest.reschedule(self.loop.time() + self.limits.last_rest_s)

    def drain(self) -> None:
        """Of HTTP/2: take no more requests, and close when those that run are answered."""
        if self._connection is not None:
            self._connection.drain()

    async def _first_bytes(self) -> bytes:
        """What the client says first: HTTP/2's preface, a line, or more than a line may be; b"" if not in time."""
        begun = b""
        try:
            async with asyncio.timeout(self.limits.greeting_s_max):
                while not self._suffices(begun):
                    if not (data := await self.reader.read(MAX_RECV)):
                        return b""
                    begun += data
        except TimeoutError:
            return b""
        return begun

    def _suffices(self, begun: bytes) -> bool:
        if PREFACE.startswith(begun[: len(PREFACE)]):
            return len(begun) >= len(PREFACE)
        return b"\n" in begun or len(begun) > self.config.h11_max_incomplete_size

    async def protocol_send(self, event: Event) -> None:
        """Send what HTTP/1.1 says. TimeoutError when the client does not read: it is given up."""
        try:
            async with asyncio.timeout(self.limits.stall_s_max if isinstance(event, RawData) else None):
                await super().protocol_send(event)
        except TimeoutError:
            cast(asyncio.Transport, self.writer.transport).abort()
            await self.protocol.handle(Closed())
            raise

    async def _close(self) -> None:
        """Close a connection of HTTP/1.1. A client that was answered amid its request is let speak on for a while."""
        transport = cast(asyncio.Transport, self.writer.transport)
        protocol = cast(Any, getattr(self, "protocol", None))
        if protocol is None or not protocol.amid_request or transport.is_closing() or not transport.can_write_eof():
            return await super()._close()
        heard = _Deaf(self.loop, transport.get_protocol())
        transport.set_protocol(heard)
        self.reader.feed_eof()
        with contextlib.suppress(OSError, TimeoutError):
            transport.write_eof()
            if not transport.is_reading():
                transport.resume_reading()
            async with asyncio.timeout(self.limits.linger_s_max):
                await heard.lost
        await super()._close()

    async def _serve_http2(self, begun: bytes, scheme: str) -> None:
        connection = Connection(self.app, self.config, self.limits, self._scope(scheme))
        self.reader.feed_eof()  # what has come so far; the rest goes to the connection
        begun += await self.reader.read()
        self._connection = connection
        connection.start(cast(asyncio.Transport, self.writer.transport), begun)
        if self._leaving:
            connection.leave()
        stop = asyncio.ensure_future(self.context.terminated.wait())
        try:
            await asyncio.wait({stop, connection.closed}, return_when=asyncio.FIRST_COMPLETED)
            if not connection.closed.done():
                connection.drain()
                await connection.closed
            while connection.tasks:
                await asyncio.wait(connection.tasks)
        finally:
            stop.cancel()
            for task in connection.tasks:
                task.cancel()
            self.writer.close()

    async def _serve_http1(self, begun: bytes, ssl: bool) -> None:
        async with TaskGroup(self.loop) as self._task_group:
            common = self._scope("https" if ssl else "http")
            self.protocol = Http1(  # type: ignore[assignment]
                self.limits,
                cast(asyncio.Transport, self.writer.transport),
                self.app,
                self.config,
                self.context,
                self._task_group,
                ConnectionState(self.state),
                ssl,
                common["client"],
                common["server"],
                self.protocol_send,
                leaving=lambda: self._leaving,
            )
            await self.protocol.initiate()
            await self.idle_task.restart(self._task_group, self._idle_timeout)
            await self.protocol.handle(RawData(begun))
            await self._read_data()
            if self._rest is not None:  # the client has gone, and no request of its runs
                self._rest.reschedule(self.loop.time())

    async def _idle_timeout(self) -> None:
        """Close a connection of HTTP/1.1 that rests for too long."""
        rest_s = self.limits.last_rest_s if self._leaving else self.config.keep_alive_timeout
        if self.reader.at_eof():
            rest_s = 0.0
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(rest_s) as self._rest:
                    await self.context.terminated.wait()
        finally:
            self._rest = None
        await asyncio.shield(self._initiate_server_close())

    def _scope(self, scheme: str) -> dict[str, Any]:
        """What all requests of this connection have in common."""
        own = self.writer.get_extra_info("socket")
        return {
            "scheme": scheme,
            "root_path": self.config.root_path,
            "client": parse_socket_addr(own.family, own.getpeername()),
            "server": parse_socket_addr(own.family, own.getsockname()),
            "state": self.state,
        }


class _Deaf(asyncio.Protocol):
    """Hears nothing of what a client says: to close upon unread bytes would take the last answer from it."""

    def __init__(self, loop: asyncio.AbstractEventLoop, before: asyncio.BaseProtocol) -> None:
        self.lost: asyncio.Future[None] = loop.create_future()
        self._before = before

    def connection_lost(self, exc: Exception | None) -> None:
        """The client has closed; whoever heard it before wants to know that."""
        self._before.connection_lost(exc)
        if not self.lost.done():
            self.lost.set_result(None)


def install() -> None:
    """Have Hypercorn serve its connections so, from now on, in this process."""
    hypercorn.asyncio.run.TCPServer = Server  # type: ignore[attr-defined]
