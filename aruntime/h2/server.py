"""Takes the place of Hypercorn's server of one connection, and chooses its protocol.

TLS, ALPN "h2" ───────────────────────┐
the first bytes are HTTP/2's preface ─┴─► Connection
anything else ──────────────────────────► Hypercorn's HTTP/1.1, mended
"""

import asyncio
from typing import Any, ClassVar, cast

import hypercorn.asyncio.run
from hypercorn.asyncio.task_group import TaskGroup
from hypercorn.asyncio.tcp_server import MAX_RECV, TCPServer
from hypercorn.events import Closed, Event, RawData
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from aruntime.h2.connection import Connection
from aruntime.h2.http1 import Http1
from aruntime.h2.limits import H2Limits
from aruntime.h2.protocol import PREFACE


class Server(TCPServer):
    """Serves one connection, as Hypercorn calls it."""

    limits: ClassVar[H2Limits] = H2Limits()
    connections: ClassVar[set[Connection]] = set()  # of HTTP/2, that are open
    _handed_over = False

    async def run(self) -> None:
        """Serve until the connection is closed and the application has done with it."""
        try:
            tls = self.writer.get_extra_info("ssl_object")
            if tls is not None and tls.selected_alpn_protocol() == "h2":
                return await self._serve_http2(b"", "https")
            begun = await self._first_bytes()
            if begun.startswith(PREFACE):
                return await self._serve_http2(begun, "http" if tls is None else "https")
            if begun:
                await self._serve_http1(begun, tls is not None)
        except OSError:
            pass
        finally:
            if not self._handed_over:  # else the transport has closed, and its stream would wait for ever to hear of it
                await self._close()

    async def _first_bytes(self) -> bytes:
        """What the client says first, until it is HTTP/2's preface or cannot become it; b"" when it says nothing."""
        begun = b""
        try:
            async with asyncio.timeout(self.limits.greeting_s_max):
                while len(begun) < len(PREFACE) and PREFACE.startswith(begun):
                    if not (data := await self.reader.read(MAX_RECV)):
                        return b""
                    begun += data
        except TimeoutError:
            return b""
        return begun

    async def protocol_send(self, event: Event) -> None:
        """Send what HTTP/1.1 says. TimeoutError when the client does not read: it is given up."""
        try:
            async with asyncio.timeout(self.limits.stall_s_max if isinstance(event, RawData) else None):
                await super().protocol_send(event)
        except TimeoutError:
            cast(asyncio.Transport, self.writer.transport).abort()
            await self.protocol.handle(Closed())
            raise

    async def _serve_http2(self, begun: bytes, scheme: str) -> None:
        connection = Connection(self.app, self.config, self.limits, self._scope(scheme))
        self.reader.feed_eof()  # what has come so far; the rest goes to the connection
        begun += await self.reader.read()
        self._handed_over = True
        connection.start(cast(asyncio.Transport, self.writer.transport), begun)
        self.connections.add(connection)
        stop = asyncio.ensure_future(self.context.terminated.wait())
        try:
            await asyncio.wait({stop, connection.closed}, return_when=asyncio.FIRST_COMPLETED)
            if not connection.closed.done():
                connection.drain()
                await connection.closed
            while connection.tasks:
                await asyncio.wait(connection.tasks)
        finally:
            self.connections.discard(connection)
            stop.cancel()
            for task in connection.tasks:
                task.cancel()

    async def _serve_http1(self, begun: bytes, ssl: bool) -> None:
        async with TaskGroup(self.loop) as self._task_group:
            common = self._scope("https" if ssl else "http")
            self.protocol = Http1(  # type: ignore[assignment]
                self.app,
                self.config,
                self.context,
                self._task_group,
                ConnectionState(self.state),
                ssl,
                common["client"],
                common["server"],
                self.protocol_send,
            )
            await self.protocol.initiate()
            await self.idle_task.restart(self._task_group, self._idle_timeout)
            await self.protocol.handle(RawData(begun))
            await self._read_data()

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


def drain() -> None:
    """Have the HTTP/2 connections of this process take no more requests, and close when theirs are answered.

    New connections are served; so a server that will end can say so.
    """
    for connection in list(Server.connections):
        connection.drain()


def install() -> None:
    """Have Hypercorn serve its connections so, from now on, in this process."""
    hypercorn.asyncio.run.TCPServer = Server  # type: ignore[attr-defined]
