"""Hypercorn with an application on a port of loopback, and a client that says any frame it likes.

With STOCK_HYPERCORN=1 in the environment the server keeps its own protocol: to see what these tests are for.
"""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Protocol, Self

import h2.config
import h2.connection
import h2.events
import hypercorn.asyncio.run
import pytest
from certificates import Pair
from h2.settings import SettingCodes, Settings
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.asyncio.run import worker_serve
from hypercorn.config import Config, Sockets

from aruntime.h2.limits import H2Limits
from aruntime.h2.server import Server

App = Callable[[dict[str, Any], Any, Any], Awaitable[None]]
STOCK = bool(os.environ.get("STOCK_HYPERCORN"))
WAIT_S = 10.0


@dataclass
class Served:
    """A running server."""

    port: int
    config: Config
    stop: asyncio.Event
    trust: ssl.SSLContext | None = None  # of those who come over TLS

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """A connection, over TLS where that is served."""
        return await asyncio.open_connection("127.0.0.1", self.port, ssl=self.trust)


class Serve(Protocol):
    """`served`, in clear text or over TLS."""

    def __call__(
        self, app: App, limits: H2Limits | None = None, **settings: Any
    ) -> contextlib.AbstractAsyncContextManager[Served]: ...


@contextlib.asynccontextmanager
async def served(
    app: App, limits: H2Limits | None = None, certificate: Pair | None = None, **settings: Any
) -> AsyncIterator[Served]:
    """Serve `app`, over TLS with a certificate; `settings` are Hypercorn's."""
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    config, stop = Config(), asyncio.Event()
    config.loglevel = "CRITICAL"
    for name, value in settings.items():
        setattr(config, name, value)
    running = Served(listener.getsockname()[1], config, stop)
    sockets = Sockets([], [listener], [])
    if certificate is not None:
        config.certfile, config.keyfile = map(str, certificate)
        running.trust = ssl.create_default_context(cafile=config.certfile)
        running.trust.set_alpn_protocols(["h2"])
        sockets = Sockets([listener], [], [])
    with pytest.MonkeyPatch.context() as patch:
        if not STOCK:
            patch.setattr(hypercorn.asyncio.run, "TCPServer", Server)
            patch.setattr(Server, "limits", limits or H2Limits())
        serving = asyncio.ensure_future(
            worker_serve(ASGIWrapper(_no_lifespan(app)), config, sockets=sockets, shutdown_trigger=stop.wait)
        )
        try:
            yield running
        finally:
            stop.set()
            await asyncio.wait_for(serving, WAIT_S)


def _no_lifespan(app: App) -> App:
    async def called(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            await app(scope, receive, send)

    return called


async def read_all(receive: Any) -> bytes:
    """All of a request's body."""
    body = b""
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            return body
    raise ConnectionResetError("the client left")


async def answer(send: Any, body: bytes = b"", status: int = 200, *, more: bool = False) -> None:
    """Begin an answer, and end it unless there is more."""
    await send({"type": "http.response.start", "status": status, "headers": [(b"x-made-by", b"a test")]})
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def echo(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answer with the body that came."""
    await answer(send, await read_all(receive))


class Client:
    """One HTTP/2 connection; `say` sends frames that no library would."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, reads: bool) -> None:
        self._reader, self._writer, self._reads = reader, writer, reads
        config = h2.config.H2Configuration(header_encoding="utf-8", validate_outbound_headers=False)
        self.h2 = h2.connection.H2Connection(config)
        self.seen: list[h2.events.Event] = []
        self._looked = 0

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, server: Served, *, reads: bool = True, window: int | None = None) -> AsyncIterator[Self]:
        """Connect. Without `reads` it gives no windows back; `window` is that of each stream."""
        reader, writer = await server.connect()
        client = cls(reader, writer, reads=reads)
        if window is not None:
            client.h2.local_settings = Settings(client=True, initial_values={SettingCodes.INITIAL_WINDOW_SIZE: window})
        client.h2.initiate_connection()
        await client.flush()
        try:
            yield client
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def ask(self, method: str = "GET", path: str = "/", body: bytes | None = None, **headers: str) -> int:
        """Begin a request; with a body, end it. The stream's number."""
        stream = self.h2.get_next_available_stream_id()
        pseudo = [(":method", method), (":scheme", "http"), (":authority", "here"), (":path", path)]
        ends = method in ("GET", "HEAD")
        self.h2.send_headers(stream, [*pseudo, *headers.items()], end_stream=ends)
        if body is not None:
            self.h2.send_data(stream, body, end_stream=True)
        await self.flush()
        return stream

    async def say(self, frames: bytes) -> None:
        """Send bytes as they are."""
        self._writer.write(frames)
        await self._writer.drain()

    async def flush(self) -> None:
        """Send what h2 has made."""
        await self.say(self.h2.data_to_send())

    async def next(self, *kinds: type, stream: int | None = None) -> Any:
        """The next event of these kinds, on this stream. ConnectionError when the connection ends before."""
        async with asyncio.timeout(WAIT_S):
            while True:
                while self._looked < len(self.seen):
                    event = self.seen[self._looked]
                    self._looked += 1
                    if isinstance(event, kinds) and stream in (None, getattr(event, "stream_id", None)):
                        return event
                await self._hear()

    async def whole(self, stream: int) -> tuple[int, bytes]:
        """The status and the body of an answer, to its END_STREAM."""
        async with asyncio.timeout(WAIT_S):
            while True:
                mine = [event for event in self.seen if getattr(event, "stream_id", None) == stream]
                for event in mine:
                    assert not isinstance(event, h2.events.StreamReset), event
                if any(isinstance(event, h2.events.StreamEnded) for event in mine):
                    (begun,) = [event for event in mine if isinstance(event, h2.events.ResponseReceived)]
                    data = b"".join(event.data for event in mine if isinstance(event, h2.events.DataReceived))
                    return int(dict(begun.headers)[":status"]), data
                await self._hear()

    async def until_closed(self) -> list[h2.events.Event]:
        """Everything, until the server closes."""
        async with asyncio.timeout(WAIT_S):
            with contextlib.suppress(ConnectionError):
                while True:
                    await self._hear()
        return self.seen

    async def _hear(self) -> None:
        if not (data := await self._reader.read(65536)):
            raise ConnectionError("the server closed the connection")
        for event in self.h2.receive_data(data):
            self.seen.append(event)
            if isinstance(event, h2.events.DataReceived) and self._reads:
                self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
        with contextlib.suppress(ConnectionError):
            await self.flush()
