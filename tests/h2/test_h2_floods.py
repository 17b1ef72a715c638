"""What is sent to wear a server down: it says goodbye, and who is beside it does not notice."""

import asyncio
from typing import Any

import h2.events
import hpack
import pytest
from h2.errors import ErrorCodes
from h2_frames import frame
from h2_house import Client, answer, echo, read_all, served

from aruntime.h2.limits import H2Limits

pytestmark = pytest.mark.timeout(60)
HEADERS, PRIORITY, SETTINGS, PING, CONTINUATION = 1, 2, 4, 6, 9
END_HEADERS, END_STREAM = 4, 1
PSEUDO = [(":method", "POST"), (":scheme", "http"), (":authority", "here"), (":path", "/")]


def opened(*fields: tuple[str, str], flags: int = END_HEADERS, stream: int = 1) -> bytes:
    """A HEADERS frame that begins a request."""
    return frame(HEADERS, flags, stream, hpack.Encoder().encode([*PSEUDO, *fields]))


FLOODS = {
    "pings": frame(PING, 0, 0, bytes(8)),
    "settings": frame(SETTINGS, 0, 0),
    "priorities": frame(PRIORITY, 0, 3, b"\x00\x00\x00\x00\x10"),
    "empty data": frame(0, 0, 1),
    "bytes of data": frame(0, 0, 1, b"x"),
}


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_ends_with_enhance_your_calm(name: str) -> None:
    async with served(echo) as server, Client.to(server) as flood, Client.to(server) as neighbour:
        await flood.ask("POST")
        await flood.say(5_000 * FLOODS[name])
        assert await neighbour.whole(await neighbour.ask("POST", body=b"hi")) == (200, b"hi")
        goodbye = (await flood.until_closed())[-1]
        assert isinstance(goodbye, h2.events.ConnectionTerminated)
        assert goodbye.error_code == ErrorCodes.ENHANCE_YOUR_CALM


async def test_an_endless_header_block_ends_the_connection() -> None:
    async with served(echo) as server, Client.to(server) as client:
        await client.say(opened(flags=0) + 2_000 * frame(CONTINUATION, 0, 1, b"\x00\x01a\x01b"))
        assert isinstance((await client.until_closed())[-1], h2.events.ConnectionTerminated)


async def test_headers_that_unpack_to_more_than_may_be_end_the_connection() -> None:
    encoder = hpack.Encoder()
    bomb = encoder.encode([*PSEUDO, ("x-long", 3_000 * "a"), *(100 * [("x-long", 3_000 * "a")])])
    assert len(bomb) < 4_000
    async with served(echo, h2_max_header_list_size=32 << 10) as server, Client.to(server) as client:
        await client.say(frame(HEADERS, END_HEADERS | END_STREAM, 1, bomb))
        goodbye = (await client.until_closed())[-1]
        assert isinstance(goodbye, h2.events.ConnectionTerminated)
        assert goodbye.error_code == ErrorCodes.ENHANCE_YOUR_CALM


async def test_who_says_nothing_is_not_waited_for() -> None:
    async with served(echo, H2Limits(greeting_s_max=0.1)) as server:
        for said in (b"", b"PRI * HT"):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(said)
            assert await asyncio.wait_for(reader.read(), 5) == b""
            writer.close()


async def test_a_connection_at_rest_is_closed_in_time() -> None:
    async with served(echo, keep_alive_timeout=0.1) as server, Client.to(server) as client:
        assert await client.whole(await client.ask()) == (200, b"")
        goodbye = (await client.until_closed())[-1]
        assert isinstance(goodbye, h2.events.ConnectionTerminated)
        assert goodbye.error_code == ErrorCodes.NO_ERROR


async def test_a_long_body_in_small_pieces_is_taken_by_whoever_is_answered() -> None:
    async def says_so(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await answer(send, more=True)
        size = 0
        while (message := await receive())["type"] == "http.request" and message["more_body"]:
            size += len(message["body"])
            await send({"type": "http.response.body", "body": b".", "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    limits = H2Limits(trifles_max=50, trifles_per_s=1)
    async with served(says_so, limits) as server, Client.to(server) as client:
        stream = await client.ask("POST")
        for _ in range(200):
            client.h2.send_data(stream, b"x")
            await client.flush()
            await client.next(h2.events.DataReceived, stream=stream)
        client.h2.end_stream(stream)
        await client.flush()
        assert await client.whole(stream) == (200, 200 * b".")


async def test_bodies_that_nobody_reads_are_bounded_over_all_streams() -> None:
    over, begun = asyncio.Event(), 0

    async def deaf(scope: dict[str, Any], receive: Any, send: Any) -> None:
        nonlocal begun
        begun += 1
        await over.wait()
        await answer(send, b"%d" % len(await read_all(receive)))

    limits = H2Limits(received_bytes_max=128 << 10)
    async with served(deaf, limits) as server, Client.to(server) as client:
        streams = [await client.ask("POST") for _ in range(4)]
        await client.next(h2.events.WindowUpdated)
        assert client.h2.outbound_flow_control_window == limits.received_bytes_max
        for stream in streams[:2]:
            for _ in range(4):
                client.h2.send_data(stream, 16_000 * b"x")
        await client.flush()
        assert client.h2.local_flow_control_window(streams[2]) == limits.received_bytes_max - 8 * 16_000
        over.set()
        for stream in streams:
            client.h2.end_stream(stream)
        await client.flush()
        for stream, size in zip(streams, (64_000, 64_000, 0, 0), strict=True):
            assert await client.whole(stream) == (200, b"%d" % size)
        assert client.h2.outbound_flow_control_window > limits.received_bytes_max - (16 << 10)
