"""What stock Hypercorn 0.18 does wrong over HTTP/2, one test each: with STOCK_HYPERCORN=1 they fail."""

import asyncio
from typing import Any

import h2.events
import pytest
from h2.errors import ErrorCodes
from h2_house import App, Client, answer, echo, read_all, served

from aruntime.h2.limits import H2Limits

pytestmark = pytest.mark.timeout(60)
PIECE = b"x" * 1024


async def test_a_client_that_gives_no_window_costs_little_memory_and_is_given_up() -> None:
    written = 0
    told: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async def endless(scope: dict[str, Any], receive: Any, send: Any) -> None:
        nonlocal written
        await answer(send, more=True)
        try:
            while True:
                await send({"type": "http.response.body", "body": PIECE, "more_body": True})
                written += len(PIECE)
                await asyncio.sleep(0)
        except TimeoutError as error:
            told.set_result(str(error))

    async with served(endless, H2Limits(stall_s_max=0.3)) as server, Client.to(server, reads=False) as client:
        stream = await client.ask()
        reset = await client.next(h2.events.StreamReset, stream=stream)
        assert reset.error_code == ErrorCodes.CANCEL
        assert await asyncio.wait_for(told, 5) == "the client does not read"
    assert written <= 65_535 + (64 << 10) + len(PIECE)


async def test_what_is_said_to_a_client_that_has_left_does_not_hang() -> None:
    ended = asyncio.Semaphore(0)

    async def late(scope: dict[str, Any], receive: Any, send: Any) -> None:
        try:
            await read_all(receive)
            await answer(send, b"x", more=True)
            while (await receive())["type"] != "http.disconnect":
                continue
            await send({"type": "http.response.body", "body": b"too late"})
        finally:
            ended.release()

    async with served(late) as server:
        async with Client.to(server) as client:
            for _ in range(50):
                await client.next(h2.events.DataReceived, stream=await client.ask())
        async with asyncio.timeout(5):
            for _ in range(50):
                await ended.acquire()


async def test_connections_that_have_ended_leave_no_task() -> None:
    async with served(echo) as server:
        for _ in range(20):
            async with Client.to(server) as client:
                await client.whole(await client.ask("POST", body=b"x"))
        await asyncio.sleep(0.1)
        assert len(asyncio.all_tasks()) < 10  # this test's, and the server's own


async def test_a_stream_outlives_a_thousand_requests_beside_it() -> None:
    go_on = asyncio.Event()

    async with served(_slow_or_echo(go_on), keep_alive_max_requests=100) as server, Client.to(server) as client:
        slow = await client.ask(path="/slow")
        for _ in range(150):
            assert await client.whole(await client.ask("POST", body=b"hello")) == (200, b"hello")
        go_on.set()
        assert await client.whole(slow) == (200, b"begun ended")


async def test_a_drain_ends_every_stream_refuses_new_ones_and_says_goodbye_last() -> None:
    go_on = asyncio.Event()

    async with served(_slow_or_echo(go_on)) as server, Client.to(server) as client, Client.to(server) as idle:
        first, second = await client.ask(path="/slow"), await client.ask(path="/slow")
        await client.next(h2.events.DataReceived, stream=second)
        assert await idle.whole(await idle.ask()) == (200, b"")
        server.stop.set()
        assert isinstance((await idle.until_closed())[-1], h2.events.ConnectionTerminated)
        late = await client.ask()
        reset = await client.next(h2.events.StreamReset, stream=late)
        assert reset.error_code == ErrorCodes.REFUSED_STREAM
        go_on.set()
        await client.until_closed()
        for stream in (first, second):
            assert await client.whole(stream) == (200, b"begun ended")
        goodbye = client.seen[-1]
        assert isinstance(goodbye, h2.events.ConnectionTerminated)
        assert goodbye.error_code == ErrorCodes.NO_ERROR


async def test_one_stream_too_many_is_refused_and_the_others_go_on() -> None:
    go_on = asyncio.Event()

    async def waits(scope: dict[str, Any], receive: Any, send: Any) -> None:
        await go_on.wait()
        await answer(send, b"done")

    async with served(waits, h2_max_concurrent_streams=10) as server, Client.to(server) as client:
        client.h2.remote_settings.update({3: 1000})  # this client does not listen
        streams = [await client.ask() for _ in range(13)]
        for stream in streams[10:]:
            reset = await client.next(h2.events.StreamReset, stream=stream)
            assert reset.error_code == ErrorCodes.REFUSED_STREAM
        go_on.set()
        for stream in streams[:10]:
            assert await client.whole(stream) == (200, b"done")


async def test_a_handler_that_does_not_read_does_not_freeze_its_neighbours() -> None:
    over = asyncio.Event()

    async def reads_or_not(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["path"] == "/deaf":
            await over.wait()
        await echo(scope, receive, send)

    async with served(reads_or_not) as server, Client.to(server) as client:
        deaf = await client.ask("POST", path="/deaf")
        for _ in range(50):
            client.h2.send_data(deaf, PIECE)
        await client.flush()
        for _ in range(100):
            assert (await client.whole(await client.ask("POST", body=PIECE)))[1] == PIECE
        over.set()
        client.h2.end_stream(deaf)
        await client.flush()
        assert await client.whole(deaf) == (200, 50 * PIECE)


async def test_a_flood_of_resets_is_shown_the_door_and_neighbours_are_served() -> None:
    async with served(echo) as server, Client.to(server) as neighbour:
        floods = asyncio.ensure_future(_flood_of_resets(server))
        answered = 0
        while not floods.done():
            assert await neighbour.whole(await neighbour.ask("POST", body=b"hi")) == (200, b"hi")
            answered += 1
        goodbye = await floods
        assert goodbye.error_code == ErrorCodes.ENHANCE_YOUR_CALM
        assert answered >= 2


async def _flood_of_resets(server: Any) -> h2.events.ConnectionTerminated:
    async with Client.to(server) as client:
        for _ in range(20_000):
            stream = client.h2.get_next_available_stream_id()
            client.h2.remote_settings.update({3: 1 << 20})
            pseudo = [(":method", "GET"), (":scheme", "http"), (":authority", "here"), (":path", "/")]
            client.h2.send_headers(stream, pseudo, end_stream=True)
            client.h2.reset_stream(stream)
            if stream % 100 == 1:
                try:
                    await client.flush()
                except ConnectionError:
                    break
        await client.until_closed()
        (goodbye,) = [event for event in client.seen if isinstance(event, h2.events.ConnectionTerminated)]
        return goodbye


def _slow_or_echo(go_on: asyncio.Event) -> App:
    """/slow begins its answer, and ends it when it may."""

    async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["path"] != "/slow":
            return await echo(scope, receive, send)
        await answer(send, b"begun ", more=True)
        await go_on.wait()
        await send({"type": "http.response.body", "body": b"ended"})

    return app
