"""What the outermost layer of the product answers before a body is there: 413, 408, 404. The other streams go on."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from h2_frames import DATA, END_HEADERS, END_STREAM, GET, Wire, data, request
from h2_house import Serve
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from aruntime.http.edge import Edge
from aruntime.http.errors import answer
from aruntime.http.limits import HttpLimits
from aruntime.http.requests import read_body

pytestmark = pytest.mark.timeout(60)
LIMITS = HttpLimits(body_bytes_max=50_000, body_s_max=0.3)


async def _echo(http: Request) -> Response:
    try:
        return PlainTextResponse(await read_body(http, LIMITS))
    except Exception as error:
        return await answer(http, error)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ([("content-length", str(64 << 20))], b"", 413),
        ([], data(3, 16_384 * b"x") * 3 + data(3, 5_000 * b"x"), 413),
        ([], data(3, b"slow"), 408),
    ],
)
async def test_an_answer_before_the_body_leaves_the_other_streams_as_they_are(
    serve: Serve, headers: list[tuple[str, str]], body: bytes, status: int
) -> None:
    over = asyncio.Event()

    async def long(_http: Request) -> Response:
        async def pieces() -> AsyncIterator[str]:
            yield "begun, "
            await over.wait()
            yield "ended"

        return StreamingResponse(pieces())

    routes = [Route("/", _echo, methods=["POST"]), Route("/long", long)]
    app: Any = Edge(Starlette(routes=routes), time.monotonic, LIMITS)
    async with serve(app) as server, Wire.to(server) as wire:
        await wire.say(request(1, pseudo=(*GET[:3], (":path", "/long")), flags=END_HEADERS | END_STREAM))
        await wire.next(DATA, stream=1)
        await wire.say(request(3, *headers) + body)
        assert (await wire.whole(3))[0] == status
        await wire.say(data(3, b"too late"))
        over.set()
        assert (await wire.next(DATA, stream=1)).payload == b"ended"
        await wire.say(request(5) + data(5, b"next", END_STREAM))
        assert await wire.whole(5) == (200, b"next")
