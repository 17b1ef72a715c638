"""httpx over HTTP/2, on a real server: many streams and a thousand requests on one connection, and what is left."""

import asyncio
import json

import httpx
import pytest
from e2e_front import ENDLESS_TOKENS, Front
from e2e_server import completion, events

ONE = httpx.Limits(max_connections=1)


def client_of(front: Front) -> httpx.AsyncClient:
    """A client of one connection."""
    return httpx.AsyncClient(base_url=front.url, timeout=60, limits=ONE, **front.httpx(http2=True))


def port(answer: httpx.Response) -> object:
    """The client's end of the connection on which an answer came."""
    return answer.extensions["network_stream"].get_extra_info("client_addr")


async def text(client: httpx.AsyncClient, tokens: int) -> tuple[str, object]:
    """A stream, read to its end; and the connection on which it came."""
    async with client.stream("POST", "/v1/completions", json=completion(tokens)) as answer:
        return "".join([piece async for piece in answer.aiter_text()]), port(answer)


async def test_six_hundred_streams_share_one_connection(front: Front) -> None:
    async with client_of(front) as client:
        told = await asyncio.gather(*(text(client, 2) for _ in range(600)))
    assert [events(said.splitlines())[-1] for said, _ in told] == ["[DONE]"] * 600
    assert len({where for _, where in told}) == 1


async def test_a_stream_outlasts_a_thousand_and_more_requests_on_its_connection(clear_front: Front) -> None:
    async with (
        client_of(clear_front) as client,
        client.stream("POST", "/v1/completions", json=completion(ENDLESS_TOKENS)) as answer,
    ):
        pieces = answer.aiter_text()
        await anext(pieces)
        for _ in range(1_100):
            other = await client.get("/health/live")
            assert (other.status_code, port(other)) == (200, port(answer))
        for _ in range(3):
            assert await anext(pieces)
    await asyncio.to_thread(clear_front.until_idle)


async def test_a_stream_that_is_cancelled_leaves_its_neighbours_alone_and_ends_with_the_client(front: Front) -> None:
    async with client_of(front) as client:
        begun = asyncio.Event()

        async def endless() -> None:
            async with client.stream("POST", "/v1/completions", json=completion(ENDLESS_TOKENS)) as answer:
                async for _ in answer.aiter_bytes():
                    begun.set()

        cancelled = asyncio.ensure_future(endless())
        neighbour = asyncio.ensure_future(text(client, 500))
        await begun.wait()
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        said, where = await neighbour
        again = await text(client, 500)
        assert words(again[0]) == words(said)
        assert again[1] == where
    # httpx sends no RST_STREAM: that it wants no more is seen when the connection ends.
    await asyncio.to_thread(front.until_idle)


def words(said: str) -> str:
    """What a stream said, without how it was cut."""
    chunks = events(said.splitlines())
    assert chunks.pop() == "[DONE]"
    return "".join(json.loads(chunk)["choices"][0]["text"] for chunk in chunks)
