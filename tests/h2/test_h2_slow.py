"""Who is slow, silent, gone or one of too many holds nothing for long."""

import asyncio
import gc
import sys
from typing import Any, cast

import pytest
from h2.errors import ErrorCodes
from h2_frames import (
    ACK,
    END_STREAM,
    GET,
    GOAWAY,
    HEADERS,
    PING,
    PREFACE,
    Wire,
    block,
    data,
    frame,
    get,
    request,
    settings,
)
from h2_house import Serve, answer, echo, served
from hypercorn.config import Config

from aruntime.h2.connection import Connection
from aruntime.h2.limits import H2Limits
from aruntime.h2.outbox import Outbox
from aruntime.h2.protocol import protocol
from aruntime.h2.stream import Stream

pytestmark = pytest.mark.timeout(60)
STALL = H2Limits(stall_s_max=0.3)


async def test_a_preface_may_come_byte_by_byte(serve: Serve) -> None:
    async with serve(echo) as server, Wire.to(server, b"") as wire:
        for byte in PREFACE + settings() + get(1):
            await wire.say(bytes((byte,)))
        assert await wire.whole(1) == (200, b"")


HALVES = {
    "the head of a frame": b"\0\0",
    "a frame": data(1, bytes(100))[:50],
    "headers": get(3)[:20],
    "headers without their end": frame(HEADERS, END_STREAM, 3, block(*GET)),
}


@pytest.mark.parametrize("name", HALVES)
async def test_who_leaves_something_half_said_is_not_waited_for_though_a_stream_runs(serve: Serve, name: str) -> None:
    told = asyncio.get_running_loop().create_future()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await answer(send, more=True)
        while (message := await receive())["type"] != "http.disconnect":
            continue
        told.set_result(message)

    async with serve(app, STALL) as server, Wire.to(server) as wire:
        await wire.say(request(1) + HALVES[name])
        assert (await wire.goodbye()).code == ErrorCodes.ENHANCE_YOUR_CALM
        await asyncio.wait_for(told, 5)


async def test_headers_that_come_too_slowly_end_the_connection_and_a_slow_body_does_not(serve: Serve) -> None:
    async with serve(echo, STALL) as server, Wire.to(server) as slow, Wire.to(server) as patient:
        ended = asyncio.ensure_future(slow.goodbye())
        await patient.say(request(1))
        for byte in get(1):
            piece = data(1, bytes((byte,)) * 20)
            await slow.say(bytes((byte,)))
            await patient.say(piece[:15])
            await asyncio.sleep(0.05)
            await patient.say(piece[15:])
            if ended.done():
                break
        assert (await ended).code == ErrorCodes.ENHANCE_YOUR_CALM
        await patient.say(data(1, b"", END_STREAM))
        assert (await patient.whole(1))[0] == 200


async def test_who_leaves_without_a_word_is_missed(serve: Serve) -> None:
    told = asyncio.get_running_loop().create_future()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        while (message := await receive())["type"] != "http.disconnect":
            continue
        told.set_result(message)

    async with serve(app) as server, Wire.to(server) as wire:
        await wire.say(request(1) + frame(PING, 0, 0, bytes(8)))
        await wire.next(PING)
        wire.leave()
        await asyncio.wait_for(told, 5)


async def test_one_connection_too_many_is_closed_until_another_has_left(serve: Serve) -> None:
    async with serve(echo, H2Limits(connections_max=2)) as server, Wire.to(server) as one:
        async with Wire.to(server) as two, Wire.to(server) as three:
            for wire in (one, two):
                await wire.say(get(1))
                assert await wire.whole(1) == (200, b"")
            async with asyncio.timeout(5):
                assert await three.hear() is None
        await one.say(get(3))
        assert await one.whole(3) == (200, b"")
        async with Wire.to(server) as four:
            await four.say(get(1))
            assert await four.whole(1) == (200, b"")


async def test_who_waits_to_be_told_is_told_to_go_on() -> None:
    async with served(echo) as server, Wire.to(server) as wire:
        await wire.say(request(1, ("expect", "100-continue")))
        assert wire.status(await wire.next(HEADERS)) == 100
        await wire.say(data(1, b"hello", END_STREAM))
        assert await wire.whole(1) == (200, b"hello")


async def test_a_star_is_a_path_of_options() -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await answer(send, scope["raw_path"])

    async with served(app) as server, Wire.to(server) as wire:
        await wire.say(request(1, pseudo=((":method", "OPTIONS"), *GET[1:3], (":path", "*")), flags=5))
        assert await wire.whole(1) == (200, b"*")


async def test_a_lying_host_is_seen_by_the_application() -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await answer(send, b" ".join(value for name, value in scope["headers"] if name == b"host"))

    async with served(app) as server, Wire.to(server) as wire:
        await wire.say(get(1, ("host", "there")) + get(3, ("host", "here"), ("host", "here")))
        assert await wire.whole(1) == (200, b"there here")
        assert await wire.whole(3) == (200, b"here")


async def test_data_beyond_the_window_ends_the_connection() -> None:
    over = asyncio.Event()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await over.wait()

    async with served(app) as server, Wire.to(server) as wire:
        await wire.say(request(1) + 5 * data(1, bytes(16_384)))
        assert (await wire.goodbye()).code == ErrorCodes.FLOW_CONTROL_ERROR
        over.set()


async def test_streams_one_after_the_other_leave_nothing_behind() -> None:
    async def ask(wire: Wire, streams: range) -> int:
        for stream in streams:
            await wire.say(request(stream) + data(stream, b"hello", END_STREAM))
            assert await wire.whole(stream) == (200, b"hello")
        gc.collect()
        return sys.getallocatedblocks()

    async with served(echo) as server, Wire.to(server) as wire:
        before = await ask(wire, range(1, 2_201, 2))
        assert await ask(wire, range(2_201, 5_001, 2)) < before + 1_000


class DeafTransport:
    """A network that takes nothing, and remembers what it was asked."""

    def __init__(self) -> None:
        self.written = b""
        self.reads = True
        self.full_bytes = 0

    def write(self, data: bytes) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.full_bytes

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def set_protocol(self, protocol: object) -> None:
        pass

    def is_closing(self) -> bool:
        return False


async def test_who_does_not_hear_its_answers_is_not_listened_to() -> None:
    transport = DeafTransport()
    connection = Connection(cast(Any, echo), Config(), H2Limits(), {"state": {}})
    connection.start(cast(asyncio.Transport, transport), PREFACE + settings())
    transport.full_bytes = 1 << 20
    connection.pause_writing()
    connection.data_received(frame(PING, 0, 0, b"question"))
    await asyncio.sleep(0)
    pong = frame(PING, ACK, 0, b"question")
    assert (transport.reads, pong in transport.written) == (False, False)
    transport.full_bytes = 0
    connection.resume_writing()
    await asyncio.sleep(0)
    assert (transport.reads, pong in transport.written) == (True, True)
    connection.connection_lost(None)


class Shut:
    """A stream's window of nothing, and how often it was looked at."""

    def __init__(self) -> None:
        self.looks = 0

    @property
    def outbound_flow_control_window(self) -> int:
        self.looks += 1
        return 0


async def test_streams_without_a_window_cost_nothing_while_others_write() -> None:
    def unused(*_: object) -> None:
        pass

    outbox = Outbox(protocol(Config()), unused, unused)
    outbox.open(cast(asyncio.Transport, DeafTransport()))
    window = Shut()
    streams = [Stream(cast(Any, None), stream, window, {"extensions": {}}, 64 << 10) for stream in range(1, 201, 2)]
    for stream in streams:
        outbox.data(stream, b"a token")
    window.looks = 0
    for stream in streams:
        outbox.data(stream, b"a token")
    assert window.looks <= 2 * len(streams)


async def test_a_request_that_reads_late_meets_a_bounded_number_of_others() -> None:
    begun, over = 0, asyncio.Event()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        nonlocal begun
        begun += 1
        await over.wait()  # and does not notice that its client has gone

    async with served(app, h2_max_concurrent_streams=10) as server, Wire.to(server) as wire:
        for stream in range(1, 201, 2):
            await wire.say(get(stream))
            await asyncio.sleep(0.002)  # it is begun
            await wire.say(frame(3, 0, stream, bytes(4)))
        await wire.say(frame(PING, 0, 0, bytes(8)))
        await wire.next(PING, GOAWAY)
        assert begun == 20
        over.set()
