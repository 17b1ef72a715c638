"""A listener stops listening while it serves, or takes up another certificate, and nobody connected is disturbed."""

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import h2.events
import pytest
from certificates import RSA, Pair, make_pair
from h2.errors import ErrorCodes
from h2_house import App, Client, Served, answer, echo
from hypercorn.config import Config

from aruntime.h2.limits import H2Limits
from aruntime.h2.listener import Listener
from aruntime.h2.server import Server

pytestmark = pytest.mark.timeout(60)
GET = b"GET / HTTP/1.1\r\nhost: here\r\n\r\n"


class Shared:
    """A socket that several listeners share."""

    def __init__(self, app: App) -> None:
        self.config = Config()
        self.config.loglevel = "CRITICAL"
        self.config.ssl_handshake_timeout = 0.3
        self._app = app
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._listeners: list[Listener] = []
        self.served = Served(self._socket.getsockname()[1], self.config, asyncio.Event())

    async def listener(self, tls: ssl.SSLContext | None = None) -> Listener:
        """One more, that listens."""
        self._listeners.append(Listener(self._socket.dup(), self._app, self.config))
        await self._listeners[-1].listen(tls)
        return self._listeners[-1]

    async def close(self) -> None:
        await asyncio.gather(*(listener.stop() for listener in self._listeners))
        self._socket.close()


@contextlib.asynccontextmanager
async def shared(app: App, limits: H2Limits | None = None) -> AsyncIterator[Shared]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Server, "limits", limits or H2Limits())
        made = Shared(app)
        try:
            yield made
        finally:
            await made.close()


class Slow:
    """/slow ends its answer when it may; anything else is echoed."""

    def __init__(self) -> None:
        self.go_on = asyncio.Event()

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["path"] != "/slow":
            return await echo(scope, receive, send)
        await answer(send, b"begun ", more=True)
        await self.go_on.wait()
        await send({"type": "http.response.body", "body": b"ended"})


async def test_who_leaves_takes_no_connection_and_answers_those_it_has_until_they_rest() -> None:
    slow = Slow()
    async with shared(slow, H2Limits(last_rest_s=0.2)) as room:
        leaving = await room.listener()
        async with Client.to(room.served) as busy, Client.to(room.served) as idle:
            stream = await busy.ask(path="/slow")
            await busy.next(h2.events.DataReceived, stream=stream)
            assert await idle.whole(await idle.ask("POST", body=b"hello")) == (200, b"hello")
            leaving.leave()
            for client in (busy, idle):
                assert await client.whole(await client.ask("POST", body=b"still")) == (200, b"still")
            assert isinstance((await idle.until_closed())[-1], h2.events.ConnectionTerminated)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.3), Client.to(room.served) as nobody:
                    await nobody.whole(await nobody.ask())
            slow.go_on.set()
            goodbye = (await busy.until_closed())[-1]
            assert await busy.whole(stream) == (200, b"begun ended")
            assert isinstance(goodbye, h2.events.ConnectionTerminated)
            assert (goodbye.error_code, goodbye.last_stream_id) == (ErrorCodes.NO_ERROR, 3)
        await asyncio.wait_for(leaving.until_closed(60), 5)


async def test_those_who_share_its_socket_take_what_comes() -> None:
    async with shared(echo) as room:
        leaving, _ = await room.listener(), await room.listener()
        leaving.leave()
        for _ in range(20):
            async with Client.to(room.served) as client:
                assert await client.whole(await client.ask("POST", body=b"hello")) == (200, b"hello")


async def test_a_listener_that_is_full_leaves_room_at_another_with_the_same_settings() -> None:
    limits = H2Limits(connections_max=1)
    async with shared(echo, limits) as public, shared(echo, limits) as admin:
        admin.config = public.config  # as those of one front end have
        await public.listener()
        await admin.listener()
        async with Client.to(public.served) as one, Client.to(admin.served) as other:
            for client in (one, other):
                assert await client.whole(await client.ask("POST", body=b"here")) == (200, b"here")


async def test_a_connection_of_http1_ends_with_its_next_answer_or_after_a_little_rest() -> None:
    async with shared(echo, H2Limits(last_rest_s=0.2)) as room:
        leaving = await room.listener()
        asks, (rests, resting) = await _http1(room), await _http1(room)
        reader, writer = asks
        leaving.leave()
        assert b"connection: close" in await _asked(reader, writer)
        assert await reader.read() == b""
        assert await rests.read() == b""
        for each in (writer, resting):
            each.close()
        await asyncio.wait_for(leaving.until_closed(60), 5)


async def test_another_certificate_is_what_new_connections_see_and_the_old_ones_go_on(tmp_path: Path) -> None:
    old, new = make_pair(tmp_path, "old", RSA), make_pair(tmp_path, "new")
    async with shared(echo) as room:
        listener = await room.listener(_context(old))
        reader, writer = await _http1(room, old)
        await listener.listen(_context(new))
        for _ in range(8):
            _, other = await _http1(room, new)
            other.close()
        with pytest.raises(ssl.SSLCertVerificationError):
            await _http1(room, old)
        assert b"200" in await _asked(reader, writer)
        writer.close()


async def test_a_handshake_that_is_not_made_in_time_ends(tmp_path: Path) -> None:
    async with shared(echo) as room:
        await room.listener(_context(make_pair(tmp_path, "pair")))
        reader, writer = await asyncio.open_connection("127.0.0.1", room.served.port)
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


def _context(pair: Pair) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*pair)
    return context


async def _http1(room: Shared, trusted: Pair | None = None) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection that has had one answer."""
    trust = ssl.create_default_context(cafile=os.fspath(trusted.certfile)) if trusted is not None else None
    reader, writer = await asyncio.open_connection("127.0.0.1", room.served.port, ssl=trust)
    assert b"connection: close" not in await _asked(reader, writer)
    return reader, writer


async def _asked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """The head of the answer to one request, which has no body."""
    writer.write(GET)
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    if b"chunked" in head:
        await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 5)
    return head
