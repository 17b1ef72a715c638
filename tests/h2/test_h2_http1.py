"""HTTP/1.1 beside HTTP/2: shapes with which requests are smuggled, the slow, and the very small."""

import asyncio
import contextlib
from typing import Any

import pytest
from h2_house import WAIT_S, Served, answer, echo, read_all, served

from aruntime.h2.limits import H2Limits

pytestmark = pytest.mark.timeout(60)
NEXT = b"GET /smuggled HTTP/1.1\r\nhost: here\r\n\r\n"
POST = b"POST / HTTP/1.1\r\nhost: here\r\n"


async def said(server: Served, words: bytes) -> bytes:
    """All that the server says to these words, until it closes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(words)
    try:
        async with asyncio.timeout(WAIT_S):
            return await reader.read()
    finally:
        writer.transport.abort()


SHAPES = {
    "transfer-encoding and content-length": POST + b"transfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
    "content-length and transfer-encoding": POST + b"content-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "two lengths": POST + b"content-length: 0\r\ncontent-length: 5\r\n\r\n",
    "two lengths in one": POST + b"content-length: 0, 5\r\n\r\n",
    "a length with a sign": POST + b"content-length: +5\r\n\r\nhello",
    "a length in hexadecimal": POST + b"content-length: 0x5\r\n\r\nhello",
    "a negative length": POST + b"content-length: -5\r\n\r\n",
    "two transfer-encodings": POST + b"transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded line": POST + b"x: a\r\n content-length: 5\r\n\r\n",
    "a folded first line": b"POST / HTTP/1.1\r\n host: here\r\nhost: here\r\n\r\n",
    "a bare line feed": POST + b"x: a\ncontent-length: 0\r\n\r\n",
    "bare line feeds only": POST.replace(b"\r\n", b"\n") + b"\n",
    "a bare carriage return": POST + b"x: a\rtransfer-encoding: chunked\r\n\r\n",
    "a null": POST + b"x: a\0\r\n\r\n",
    "a space before the colon": POST + b"content-length : 5\r\n\r\nhello",
    "a space before the name": b"POST / HTTP/1.1\r\nhost: here\r\n content-length: 5\r\n\r\nhello",
    "no name": POST + b": a\r\n\r\n",
    "no colon": POST + b"content-length\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": POST + b"host: there\r\n\r\n",
    "two spaces": b"GET  / HTTP/1.1\r\nhost: here\r\n\r\n",
    "a space in the path": b"GET /a b HTTP/1.1\r\nhost: here\r\n\r\n",
    "a chunk without measure": POST + b"transfer-encoding: chunked\r\n\r\nzz\r\n\r\n",
    "a chunk with a sign": POST + b"transfer-encoding: chunked\r\n\r\n+5\r\nhello\r\n0\r\n\r\n",
    "a chunk longer than it says": POST + b"transfer-encoding: chunked\r\n\r\n4\r\nhello\r\n0\r\n\r\n",
}


@pytest.mark.parametrize("name", SHAPES)
async def test_a_request_of_which_two_servers_may_think_differently_is_refused_and_nothing_after_it_read(
    name: str,
) -> None:
    paths = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        paths.append(scope["path"])
        with contextlib.suppress(ConnectionResetError):
            await answer(send, await read_all(receive))

    async with served(app) as server:
        heard = await said(server, SHAPES[name] + NEXT)
    status = heard.split(b" ", 2)[1]
    assert status in (b"400", b"501")
    assert heard.count(b"HTTP/1.1") == 1
    assert "/smuggled" not in paths


@pytest.mark.parametrize(
    "words",
    [b"INVALID CONNECTION PREFACE\r\n\r\n", b"GET /\r\n",
     b"GET / HTTP/2.0\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n",
     b"\x16\x03\x01\x02\0\x01\0\n\xfc\x03\x03", b"\r\n\r\n", b"\0\n"],
)  # fmt: skip
async def test_who_speaks_neither_protocol_is_not_answered(words: bytes) -> None:
    async with served(echo) as server:
        assert await said(server, words) == b""


async def test_headers_that_do_not_end_are_408_and_a_slow_body_is_the_application_s_to_judge() -> None:
    async with served(echo, H2Limits(stall_s_max=0.3)) as server:
        assert (await said(server, POST)).startswith(b"HTTP/1.1 408 ")
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(POST + b"content-length: 5\r\nconnection: close\r\n\r\n")
        for byte in b"hello":
            await asyncio.sleep(0.1)
            writer.write(bytes((byte,)))
        assert (await asyncio.wait_for(reader.read(), WAIT_S)).endswith(b"hello\r\n0\r\n\r\n")
        writer.close()


async def test_a_second_request_s_headers_have_their_time_too() -> None:
    async with served(echo, H2Limits(stall_s_max=0.3)) as server:
        heard = await said(server, POST + b"content-length: 0\r\n\r\n" + POST)
        assert [line.split()[1] for line in heard.splitlines() if line.startswith(b"HTTP/1.1")] == [b"200", b"408"]


async def test_very_many_little_chunks_are_refused_and_a_neighbour_is_served() -> None:
    async with served(echo) as server:
        crumbs = asyncio.ensure_future(
            said(server, POST + b"transfer-encoding: chunked\r\n\r\n" + 100_000 * b"1\r\nx\r\n")
        )
        assert (await said(server, b"GET / HTTP/1.1\r\nhost: here\r\nconnection: close\r\n\r\n")).startswith(
            b"HTTP/1.1 200 "
        )
        with contextlib.suppress(ConnectionResetError):
            assert (await crumbs).startswith(b"HTTP/1.1 429 ")


async def test_requests_that_come_together_are_answered_in_their_order() -> None:
    async with served(echo) as server:
        words = [POST + b"content-length: %d\r\n\r\n%b" % (len(word), word) for word in (b"first,", b"second,")]
        heard = await said(server, b"".join(words) + POST + b"connection: close\r\ncontent-length: 5\r\n\r\nthird")
        assert heard.count(b"HTTP/1.1 200 ") == 3
        assert heard.index(b"first") < heard.index(b"second") < heard.index(b"third")
