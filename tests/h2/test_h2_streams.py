"""A request and its answer over HTTP/2, as the application and the client see them."""

import asyncio
import contextlib
import logging
from typing import Any

import h2.events
import httpx
import pytest
import uvloop
from h2.errors import ErrorCodes
from h2_frames import frame
from h2_house import Client, answer, echo, read_all, served

from aruntime.h2.limits import H2Limits
from aruntime.h2.stream import EXTENSION

pytestmark = pytest.mark.timeout(60)


async def test_long_bodies_pass_both_ways() -> None:
    async with served(echo) as server, Client.to(server) as client:
        stream = await client.ask("POST")
        body = bytes(range(256)) * 2_000
        sent = 0
        while sent < len(body):
            room = min(client.h2.local_flow_control_window(stream), 16_384, len(body) - sent)
            if room == 0:
                await client.next(h2.events.WindowUpdated)
                continue
            client.h2.send_data(stream, body[sent : sent + room])
            sent += room
            await client.flush()
        client.h2.end_stream(stream)
        await client.flush()
        assert await client.whole(stream) == (200, body)


async def test_a_small_window_slows_an_answer_and_loses_nothing() -> None:
    async with served(echo) as server, Client.to(server, window=10) as client:
        assert await client.whole(await client.ask("POST", body=500 * b"abc")) == (200, 500 * b"abc")


async def test_streams_that_wait_for_the_connection_s_window_take_turns() -> None:
    async def long(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await answer(send, 100_000 * b"x")

    async with served(long) as server, Client.to(server, window=1 << 20) as client:
        streams = [await client.ask() for _ in range(4)]
        for stream in streams:
            assert await client.whole(stream) == (200, 100_000 * b"x")
        order = [event.stream_id for event in client.seen if isinstance(event, h2.events.DataReceived)]
        firsts = [order.index(stream) for stream in streams]
        lasts = [len(order) - 1 - order[::-1].index(stream) for stream in streams]
        assert max(firsts) < min(lasts)


async def test_padding_gives_its_window_back() -> None:
    async with served(echo) as server, Client.to(server) as client:
        stream = await client.ask("POST")
        for _ in range(1_000):  # three windows of a stream
            while client.h2.local_flow_control_window(stream) < 202:
                await client.next(h2.events.WindowUpdated, stream=stream)
            client.h2.send_data(stream, b"x", pad_length=200)
            await client.flush()
        client.h2.end_stream(stream)
        await client.flush()
        assert await client.whole(stream) == (200, 1_000 * b"x")


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_some_answers_have_no_body(method: str, status: int) -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await answer(send, b"not to be seen", status)

    async with served(app) as server, Client.to(server) as client:
        assert await client.whole(await client.ask(method)) == (status, b"")


@pytest.mark.parametrize("protocol", ["h2", "http/1.1"])
async def test_what_is_written_without_awaiting_goes_out_in_order_and_says_when_to_wait(protocol: str) -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        stream = scope["extensions"][EXTENSION]
        await answer(send, b"0,", more=True)
        number = 0
        while stream.write(b"%999d," % (number := number + 1)):
            continue
        await stream.drained()
        assert stream.write(b"drained")
        await send({"type": "http.response.body", "body": b""})

    async with served(app) as server:
        if protocol == "h2":
            async with Client.to(server) as client:
                _, body = await client.whole(await client.ask())
        else:
            async with httpx.AsyncClient() as other:
                body = (await other.get(f"http://127.0.0.1:{server.port}/")).content
        *numbers, last = body.split(b",")
        assert last == b"drained"
        assert [int(number) for number in numbers] == list(range(len(numbers)))
        assert len(body) > 64 << 10


async def test_an_application_that_fails_answers_500_or_resets() -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["path"] == "/begun":
            await answer(send, b"x", more=True)
        raise RuntimeError("broken")

    async with served(app) as server, Client.to(server) as client:
        assert await client.whole(await client.ask()) == (500, b"")
        reset = await client.next(h2.events.StreamReset, stream=await client.ask(path="/begun"))
        assert reset.error_code == ErrorCodes.INTERNAL_ERROR
        assert await client.whole(await client.ask()) == (500, b"")


async def test_an_application_that_ends_too_early_answers_500_or_resets() -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["path"] == "/begun":
            await answer(send, b"x", more=True)

    async with served(app) as server, Client.to(server) as client:
        assert await client.whole(await client.ask()) == (500, b"")
        reset = await client.next(h2.events.StreamReset, stream=await client.ask(path="/begun"))
        assert reset.error_code == ErrorCodes.INTERNAL_ERROR


@pytest.mark.parametrize("leaves", ["reset", "close"])
async def test_an_application_hears_at_once_that_its_client_has_gone(leaves: str) -> None:
    heard: asyncio.Queue[str] = asyncio.Queue()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await answer(send, b"x", more=True)
        while (message := await receive())["type"] == "http.request":
            continue
        heard.put_nowait(message["type"])
        with pytest.raises(ConnectionResetError, match="the client has"):
            await send({"type": "http.response.body", "body": b"y"})
        heard.put_nowait("refused")

    async with served(app) as server:
        async with Client.to(server) as client:
            stream = await client.ask()
            await client.next(h2.events.DataReceived, stream=stream)
            if leaves == "reset":
                client.h2.reset_stream(stream)
                await client.flush()
                assert await asyncio.wait_for(heard.get(), 5) == "http.disconnect"
        if leaves == "close":
            assert await asyncio.wait_for(heard.get(), 5) == "http.disconnect"
        assert await asyncio.wait_for(heard.get(), 5) == "refused"


def test_clients_that_vanish_while_they_are_written_to_leave_no_error_behind() -> None:
    """In uvloop a transport is closed some time before its protocol hears of it."""
    errors: list[dict[str, Any]] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await answer(send, b"x", more=True)
        stream = scope["extensions"][EXTENSION]
        with contextlib.suppress(ConnectionResetError):
            while True:
                stream.write(1_000 * b"x")
                await asyncio.sleep(0)
                await stream.drained()

    async def vanish() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: errors.append(context))
        async with served(app) as server:
            for _ in range(50):
                async with Client.to(server) as client:
                    await client.next(h2.events.DataReceived, stream=await client.ask())

    uvloop.run(vanish())
    assert not errors


async def test_a_request_that_is_reset_in_the_same_breath_is_never_begun() -> None:
    begun: list[str] = []

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        begun.append(scope["path"])
        await answer(send)

    async with served(app) as server, Client.to(server) as client:
        for _ in range(5):
            stream = client.h2.get_next_available_stream_id()
            fields = [(":method", "GET"), (":scheme", "http"), (":authority", "here"), (":path", "/reset")]
            client.h2.send_headers(stream, fields, end_stream=True)
            client.h2.reset_stream(stream)
        assert (await client.whole(await client.ask(path="/wanted")))[0] == 200
        assert begun == ["/wanted"]


async def test_a_request_that_was_answered_before_its_end_may_be_said_to_its_end() -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await answer(send, b"enough", 413)

    async with served(app) as server, Client.to(server) as client:
        stream = await client.ask("POST")
        await client.next(h2.events.StreamEnded, stream=stream)
        left = 300_000
        while left:
            if (room := min(client.h2.local_flow_control_window(stream), 16_384, left)) == 0:
                await client.next(h2.events.WindowUpdated, stream=stream)
                continue
            left -= room
            client.h2.send_data(stream, room * b"x", end_stream=left == 0)
            await client.flush()
        assert (await client.whole(stream))[0] == 413
        assert (await client.whole(await client.ask()))[0] == 413


async def test_what_is_said_after_the_answer_is_heard_for_the_stall_limit_and_then_reset_without_an_error() -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await answer(send, b"enough", 413)

    async with served(app, H2Limits(stall_s_max=0.2)) as server, Client.to(server) as client:
        stream = await client.ask("POST")
        reset = await client.next(h2.events.StreamReset, stream=stream)
        assert any(isinstance(event, h2.events.StreamEnded) for event in client.seen)
        assert reset.error_code == ErrorCodes.NO_ERROR
        assert (await client.whole(await client.ask()))[0] == 413


async def test_a_drain_waits_for_no_more_of_a_request_that_was_answered() -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await answer(send, b"enough", 413)

    async with served(app) as server, Client.to(server) as client:
        stream = await client.ask("POST")
        await client.next(h2.events.StreamEnded, stream=stream)
        server.stop.set()
        reset = await client.next(h2.events.StreamReset, stream=stream)
        assert reset.error_code == ErrorCodes.NO_ERROR
        await client.next(h2.events.ConnectionTerminated)


async def test_hosts_that_differ_are_both_seen() -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        hosts = [value for name, value in scope["headers"] if name == b"host"]
        await answer(send, b" ".join(hosts))

    async with served(app) as server, Client.to(server) as client:
        assert await client.whole(await client.ask()) == (200, b"here")
        assert await client.whole(await client.ask(host="here")) == (200, b"here")


async def test_a_path_is_told_as_it_came_and_decoded() -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await answer(send, repr((scope["path"], scope["raw_path"], scope["query_string"], scope["scheme"])).encode())

    async with served(app) as server, Client.to(server) as client:
        _, body = await client.whole(await client.ask(path="/a%20b?c=%20"))
        assert body == repr(("/a b", b"/a%20b", b"c=%20", "http")).encode()


async def test_a_client_that_says_goodbye_is_still_answered() -> None:
    go_on = asyncio.Event()

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await answer(send, b"begun ", more=True)
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"ended"})

    async with served(app) as server, Client.to(server) as client:
        stream = await client.ask()
        await client.next(h2.events.DataReceived, stream=stream)
        await client.say(frame(7, 0, 0, bytes(8)))
        await asyncio.sleep(0.05)
        go_on.set()
        assert await client.whole(stream) == (200, b"begun ended")


async def test_http1_says_that_an_early_answer_ends_the_connection() -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["path"] == "/whole":
            await read_all(receive)
        await answer(send, b"ok")

    async with served(app) as server:
        for path, said in (("/whole", False), ("/early", True)):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"POST %b HTTP/1.1\r\nhost: here\r\ncontent-length: 10\r\n\r\n" % path.encode())
            if path == "/whole":
                writer.write(10 * b"x")
            head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
            assert (b"connection: close" in head.lower()) == said
            writer.close()


@pytest.mark.parametrize("read", [0, 1])
async def test_http1_an_early_answer_reaches_a_client_that_sends_on_and_leaves_nothing_behind(read: int) -> None:
    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        for _ in range(read):
            await receive()
            await asyncio.sleep(0.1)  # meanwhile more comes than waits for an application
        await answer(send, b"enough", 413)

    async def send_on(writer: asyncio.StreamWriter) -> None:
        for _ in range(200):
            writer.write(65_536 * b"x")
            await writer.drain()

    async with served(app) as server:
        for _ in range(5):
            reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
            writer.write(b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 99000000\r\n\r\n")
            await asyncio.wait_for(send_on(writer), 10)
            assert (await asyncio.wait_for(reader.read(), 5)).startswith(b"HTTP/1.1 413")
            writer.close()
        await asyncio.sleep(0.1)
        assert len(asyncio.all_tasks()) < 10


async def test_http1_whose_client_has_left_at_rest_is_closed_at_once() -> None:
    async with served(echo, keep_alive_timeout=75.0) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
        writer.write(b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: 2\r\n\r\nhi")
        assert (await asyncio.wait_for(reader.readuntil(b"\r\n0\r\n\r\n"), 5)).startswith(b"HTTP/1.1 200")
        writer.write_eof()
        assert await asyncio.wait_for(reader.read(), 5) == b""
        writer.close()


async def test_http1_that_does_not_read_is_given_up() -> None:
    told = asyncio.Event()

    async def endless(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await answer(send, more=True)
        with contextlib.suppress(TimeoutError):
            while True:
                await send({"type": "http.response.body", "body": 65_536 * b"x", "more_body": True})
        assert (await receive())["type"] == "http.request"
        assert (await receive())["type"] == "http.disconnect"
        told.set()

    async with served(endless, H2Limits(stall_s_max=0.3)) as server:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
        writer.write(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
        await asyncio.wait_for(told.wait(), 10)
        writer.close()
        assert reader is not None


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="hypercorn.error")
