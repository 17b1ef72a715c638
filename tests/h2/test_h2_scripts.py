"""Scripts of frames, in clear text and over TLS: what each costs whom, by RFC 9113.

Tables: a script, and how it ends. A request that is wrong ends alone, an error of the connection ends with a GOAWAY
that says which, a flood with ENHANCE_YOUR_CALM; who is beside it is served.
"""

from typing import Any

import hpack
import pytest
from h2.errors import ErrorCodes
from h2_frames import (
    ACK,
    CONTINUATION,
    END_HEADERS,
    END_STREAM,
    GET,
    GOAWAY,
    HEADERS,
    INITIAL_WINDOW,
    PADDED,
    PING,
    PRIORITY,
    PSEUDO,
    PUSH_PROMISE,
    RST_STREAM,
    WITH_PRIORITY,
    Wire,
    block,
    data,
    frame,
    get,
    request,
    reset,
    settings,
    window,
)
from h2_house import Serve, answer, read_all

from aruntime.h2.limits import H2Limits

pytestmark = pytest.mark.timeout(60)
WHOLE = END_HEADERS | END_STREAM
MOST = 2**31 - 1
LIMITS = H2Limits(trifles_max=200)


async def app(scope: dict[str, Any], receive: Any, send: Any) -> None:
    """Answers with the body that came; /deaf waits until its client has gone."""
    if scope["path"] == "/deaf":
        while (await receive())["type"] != "http.disconnect":
            continue
        return
    await answer(send, await read_all(receive) or scope["path"].encode())


def without(name: str) -> bytes:
    """A request that lacks a pseudo-header field."""
    return request(1, pseudo=tuple(field for field in GET if field[0] != name), flags=WHOLE)


def with_path(path: str, method: str = "GET") -> bytes:
    """A request for this path."""
    return request(1, pseudo=((":method", method), *GET[1:3], (":path", path)), flags=WHOLE)


MALFORMED = {
    "a name in upper case": get(1, ("X-Name", "a")),
    "a space in a name": get(1, ("x name", "a")),
    "a colon in a name": get(1, ("x:name", "a")),
    "a name that is not ASCII": get(1, ("x-\xe9", "a")),
    "no name": get(1, ("", "a")),
    "a null in a value": get(1, ("x", "a\0b")),
    "a line feed in a value": get(1, ("x", "a\nhost: b")),
    "a carriage return in a value": get(1, ("x", "a\rb")),
    "a space before a value": get(1, ("x", " a")),
    "a tab after a value": get(1, ("x", "a\t")),
    "connection": get(1, ("connection", "close")),
    "keep-alive": get(1, ("keep-alive", "1")),
    "proxy-connection": get(1, ("proxy-connection", "close")),
    "transfer-encoding": request(1, ("transfer-encoding", "chunked")),
    "upgrade": get(1, ("upgrade", "h2c")),
    "te that is not trailers": get(1, ("te", "gzip")),
    "no method": without(":method"),
    "no scheme": without(":scheme"),
    "no path": without(":path"),
    "two paths": get(1, (":path", "/other")),
    "two methods": request(1, pseudo=(GET[0], *GET), flags=WHOLE),
    "a status": request(1, pseudo=(*GET, (":status", "200")), flags=WHOLE),
    "an unknown pseudo-header field": request(1, pseudo=(*GET, (":what", "a")), flags=WHOLE),
    "a pseudo-header field after another": request(1, ("x", "a"), (":path", "/"), pseudo=GET[:3], flags=WHOLE),
    "a line feed in an authority": request(1, pseudo=(*GET[:2], (":authority", "a\nb"), GET[3]), flags=WHOLE),
    "an empty path": with_path(""),
    "a path with a host": with_path("http://there/"),
    "a path without a slash": with_path("admin"),
    "a star that is not of OPTIONS": with_path("*"),
    "a path that is not ASCII": with_path("/\xe9"),
    "CONNECT": request(1, pseudo=((":method", "CONNECT"), (":authority", "there:22"))),
    "CONNECT with a protocol": request(1, pseudo=((":method", "CONNECT"), *PSEUDO[1:], (":protocol", "websocket"))),
    "the same length twice": request(1, ("content-length", "1"), ("content-length", "1")),
    "a length of no body": get(1, ("content-length", "3")),
    "a pseudo-header field in trailers": request(1) + frame(HEADERS, WHOLE, 1, block((":path", "/"))),
    "upper case in trailers": request(1) + frame(HEADERS, WHOLE, 1, block(("X", "a"))),
}


@pytest.mark.parametrize("name", MALFORMED)
async def test_a_malformed_request_ends_alone(serve: Serve, name: str) -> None:
    async with serve(app) as server, Wire.to(server) as wire:
        await wire.say(MALFORMED[name] + get(3))
        ended = await wire.next(RST_STREAM, GOAWAY)
        assert (ended.kind, ended.stream, ended.code) == (RST_STREAM, 1, ErrorCodes.PROTOCOL_ERROR)
        assert await wire.whole(3) == (200, b"/")


HELLO = request(1) + data(1, b"hello", END_STREAM)
SERVED = {
    "trailers": request(1) + data(1, b"hello") + frame(HEADERS, WHOLE, 1, block(("x", "a"))),
    "te: trailers": request(1, ("te", "trailers")) + data(1, b"hello", END_STREAM),
    "padded data": request(1) + data(1, b"\x05hello" + bytes(5), END_STREAM | PADDED),
    "padded headers": frame(HEADERS, END_HEADERS | PADDED, 1, b"\x03" + block(*PSEUDO) + bytes(3))
    + data(1, b"hello", END_STREAM),
    "headers with a priority": frame(HEADERS, END_HEADERS | WITH_PRIORITY, 1, bytes(5) + block(*PSEUDO))
    + data(1, b"hello", END_STREAM),
    "headers in pieces": frame(HEADERS, 0, 1, block(*PSEUDO)[:9])
    + frame(CONTINUATION, END_HEADERS, 1, block(*PSEUDO)[9:])
    + data(1, b"hello", END_STREAM),
    "unknown frames": frame(77, 255, 1, b"what") + HELLO,
    "ALTSVC, ORIGIN and PRIORITY_UPDATE": frame(10, 0, 0, b"\0\x01ab")
    + frame(12, 0, 0)
    + frame(16, 0, 0, bytes(4))
    + HELLO,
    "a priority of a stream to come": frame(PRIORITY, 0, 9, bytes(4) + b"\x10") + HELLO,
    "unknown settings": settings((0x99, 1), (0xFFFF, 2)) + HELLO,
    "windows that come and go": HELLO + 20 * (settings((INITIAL_WINDOW, 0)) + settings((INITIAL_WINDOW, MOST))),
    "data in empty pieces": request(1) + 9 * data(1) + data(1, b"hello") + data(1, b"", END_STREAM),
    "a length that is true": request(1, ("content-length", "5")) + data(1, b"hello", END_STREAM),
    "a host that is the authority": request(1, ("host", "here")) + data(1, b"hello", END_STREAM),
    "a window that is opened after it was closed": settings((INITIAL_WINDOW, 0)) + HELLO + window(1, 5),
    "a goodbye, and what it still takes": settings((INITIAL_WINDOW, 0))
    + HELLO
    + frame(GOAWAY, 0, 0, bytes(8))
    + window(1, 5)
    + frame(PING, 0, 0, bytes(8)),
}  # fmt: skip


@pytest.mark.parametrize("name", SERVED)
async def test_what_is_odd_but_allowed_is_served(serve: Serve, name: str) -> None:
    async with serve(app) as server, Wire.to(server) as wire:
        await wire.say(SERVED[name])
        assert await wire.whole(1) == (200, b"hello")
        if "goodbye" not in name:
            await wire.say(settings((INITIAL_WINDOW, 65_535)) + get(3))
            assert await wire.whole(3) == (200, b"/")


ERRORS = {
    "a frame that is too large": (data(1, bytes(16_385)), ErrorCodes.FRAME_SIZE_ERROR),
    "an even stream": (get(2), ErrorCodes.PROTOCOL_ERROR),
    "a stream of the past": (get(5) + get(3), ErrorCodes.PROTOCOL_ERROR),
    "data of no stream": (data(7, b"x"), ErrorCodes.PROTOCOL_ERROR),
    "data of stream 0": (data(0, b"x"), ErrorCodes.PROTOCOL_ERROR),
    "a promise": (request(1) + frame(PUSH_PROMISE, 4, 1, b"\0\0\0\x02" + block(*GET)), ErrorCodes.PROTOCOL_ERROR),
    "a length too long": (
        request(1, ("content-length", "5")) + data(1, b"four", END_STREAM),
        ErrorCodes.PROTOCOL_ERROR,
    ),
    "a length too short": (request(1, ("content-length", "3")) + data(1, b"four"), ErrorCodes.PROTOCOL_ERROR),
    "two lengths": (request(1, ("content-length", "1"), ("content-length", "2")), ErrorCodes.PROTOCOL_ERROR),
    "a length with a sign": (request(1, ("content-length", "+1")), ErrorCodes.PROTOCOL_ERROR),
    "a window that grows by 0": (window(0, 0), ErrorCodes.PROTOCOL_ERROR),
    "a window that grows too large": (window(0, MOST), ErrorCodes.FLOW_CONTROL_ERROR),
    "an initial window that is too large": (settings((INITIAL_WINDOW, MOST + 1)), ErrorCodes.FLOW_CONTROL_ERROR),
    "windows made too large by settings": (
        request(1) + window(1, MOST - 65_535) + settings((INITIAL_WINDOW, 65_536)),
        ErrorCodes.FLOW_CONTROL_ERROR,
    ),
    "padding that is all and more": (request(1) + data(1, b"\x05four", PADDED), ErrorCodes.PROTOCOL_ERROR),
    "another frame within headers": (request(1, flags=0) + frame(PING, 0, 0, bytes(8)), ErrorCodes.PROTOCOL_ERROR),
    "headers of another stream within headers": (request(1, flags=0) + get(3), ErrorCodes.PROTOCOL_ERROR),
    "a continuation of nothing": (frame(CONTINUATION, 4, 1, block(*GET)), ErrorCodes.PROTOCOL_ERROR),
    "empty continuations": (request(1, flags=0) + 2_000 * frame(CONTINUATION, 0, 1), ErrorCodes.PROTOCOL_ERROR),
    "small continuations": (
        request(1, flags=0) + 2_000 * frame(CONTINUATION, 0, 1, block(("a", "b"))),
        ErrorCodes.PROTOCOL_ERROR,
    ),
    "long continuations": (
        request(1, flags=0) + 60 * frame(CONTINUATION, 0, 1, bytes(16_384)),
        ErrorCodes.ENHANCE_YOUR_CALM,
    ),
    "an index beyond the table": (frame(HEADERS, WHOLE, 1, b"\xff\x7f"), ErrorCodes.COMPRESSION_ERROR),
    "a number without end": (frame(HEADERS, WHOLE, 1, b"\xff" + 5_000 * b"\xff"), ErrorCodes.COMPRESSION_ERROR),
    "a table that is too large": (frame(HEADERS, WHOLE, 1, b"\x3f\xe2\x1f"), ErrorCodes.COMPRESSION_ERROR),
    "a table that changes its size all the time": (
        frame(HEADERS, WHOLE, 1, 3 * b"\x20" + block(*GET)),
        ErrorCodes.COMPRESSION_ERROR,
    ),
    "a bomb": (
        frame(HEADERS, WHOLE, 1, hpack.Encoder().encode([*GET, *(101 * [("x-long", 4_000 * "a")])])),
        ErrorCodes.ENHANCE_YOUR_CALM,
    ),
    "headers that are too long": (get(1, ("x", 10_000 * "a"), ("y", 6_000 * "b")), ErrorCodes.ENHANCE_YOUR_CALM),
}  # fmt: skip


@pytest.mark.parametrize("name", ERRORS)
async def test_an_error_of_the_connection_ends_it_with_a_goodbye_that_says_which(serve: Serve, name: str) -> None:
    frames, code = ERRORS[name]
    async with serve(app, h2_max_header_list_size=8_192) as server, Wire.to(server) as other, Wire.to(server) as wire:
        await wire.say(frames)
        assert (await wire.goodbye()).code == code
        await other.say(get(1))
        assert await other.whole(1) == (200, b"/")


def deaf(stream: int, flags: int = END_HEADERS) -> bytes:
    """A request that is never answered."""
    return request(stream, pseudo=(*PSEUDO[:3], (":path", "/deaf")), flags=flags)


DEAF = deaf(1)
MANY = range(1, 601, 2)
FLOODS = {
    "pings": DEAF + 300 * frame(PING, 0, 0, bytes(8)),
    "answers to pings": DEAF + 300 * frame(PING, ACK, 0, bytes(8)),
    "settings": DEAF + 300 * settings(),
    "one frame of many settings": DEAF + settings(*((1_000 + n, n) for n in range(2_000))),
    "windows that come and go": DEAF + 150 * (settings((INITIAL_WINDOW, 0)) + settings((INITIAL_WINDOW, MOST))),
    "crumbs of the connection's window": DEAF + 3_000 * window(0, 1),
    "crumbs of a stream's window": DEAF + 3_000 * window(1, 1),
    "windows of a stream that is over": get(1) + 3_000 * window(1, 1),
    "empty data": DEAF + 300 * data(1),
    "data by the byte": DEAF + 300 * data(1, b"x"),
    "padding": DEAF + 220 * data(1, b"\xc8x" + bytes(200), PADDED),
    "data of a stream that was reset": DEAF + reset(1) + 300 * data(1, bytes(100)),
    "priorities": DEAF + 300 * frame(PRIORITY, 0, 3, bytes(4) + b"\x10"),
    "unknown frames": DEAF + 300 * frame(77, 0, 0, b"what"),
    "ALTSVC": DEAF + 300 * frame(10, 0, 0, b"\0\x01ab"),
    "goodbyes": DEAF + 300 * frame(GOAWAY, 0, 0, bytes(8)),
    "resets": b"".join(deaf(n) + reset(n) for n in MANY),
    "resets by windows that are too large": b"".join(deaf(n) + window(n, MOST) for n in MANY),
    "resets by data after the end": b"".join(deaf(n, WHOLE) + data(n, bytes(100)) for n in MANY),
    "resets by trailers": b"".join(deaf(n) + frame(HEADERS, WHOLE, n, block(("X", "a"))) for n in MANY),
    "malformed requests": b"".join(get(n, ("X", "a")) for n in MANY),
    "refused requests": b"".join(deaf(n) for n in MANY),
    "headers in crumbs": b"".join(
        frame(HEADERS, END_STREAM, n, block(*GET)) + 40 * frame(CONTINUATION, 0, n) + frame(CONTINUATION, 4, n)
        for n in range(1, 21, 2)
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FLOODS)
async def test_a_flood_ends_calmly_and_a_neighbour_is_served(serve: Serve, name: str) -> None:
    async with serve(app, LIMITS) as server, Wire.to(server) as neighbour, Wire.to(server) as flood:
        await flood.say(FLOODS[name])
        await neighbour.say(get(1))
        assert await neighbour.whole(1) == (200, b"/")
        assert (await flood.goodbye()).code == ErrorCodes.ENHANCE_YOUR_CALM
