"""Frames as bytes, and a client that says and hears them as they are: no library stands between it and the server."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import NamedTuple, Self

import hpack
from h2_house import WAIT_S, Served
from hpack.hpack import encode_integer

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED, WITH_PRIORITY = 1, 1, 4, 8, 32
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
INITIAL_WINDOW = 4  # of settings
PSEUDO = ((":method", "POST"), (":scheme", "http"), (":authority", "here"), (":path", "/"))
GET = ((":method", "GET"), *PSEUDO[1:])


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame (RFC 9113, 4.1)."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def block(*fields: tuple[str, str]) -> bytes:
    """A header block that needs no table and leaves none behind: literals, whatever they say."""
    return b"".join(b"\0" + _text(name) + _text(value) for name, value in fields)


def request(stream: int, *more: tuple[str, str], pseudo: tuple[tuple[str, str], ...] = PSEUDO, flags: int = 4) -> bytes:
    """HEADERS that begin a request."""
    return frame(HEADERS, flags, stream, block(*pseudo, *more))


def get(stream: int, *more: tuple[str, str]) -> bytes:
    """A whole request."""
    return request(stream, *more, pseudo=GET, flags=END_HEADERS | END_STREAM)


def data(stream: int, payload: bytes = b"", flags: int = 0) -> bytes:
    """A piece of a body."""
    return frame(DATA, flags, stream, payload)


def settings(*pairs: tuple[int, int]) -> bytes:
    """Settings of these codes and values."""
    return frame(SETTINGS, 0, 0, b"".join(code.to_bytes(2, "big") + value.to_bytes(4, "big") for code, value in pairs))


def window(stream: int, size: int) -> bytes:
    """WINDOW_UPDATE."""
    return frame(WINDOW_UPDATE, 0, stream, size.to_bytes(4, "big"))


def reset(stream: int) -> bytes:
    """RST_STREAM with CANCEL."""
    return frame(RST_STREAM, 0, stream, b"\0\0\0\x08")


def _text(text: str) -> bytes:
    raw = text.encode("latin-1")
    return bytes(encode_integer(len(raw), 7)) + raw


class Heard(NamedTuple):
    """A frame of the server."""

    kind: int
    flags: int
    stream: int
    payload: bytes

    @property
    def code(self) -> int:
        """Why a stream was reset, or the connection ends."""
        return int.from_bytes(self.payload[4:8] if self.kind == GOAWAY else self.payload[:4], "big")


class Wire:
    """One connection of HTTP/2."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._decoder = hpack.Decoder()

    @classmethod
    @contextlib.asynccontextmanager
    async def to(cls, server: Served, begun: bytes = PREFACE + settings()) -> AsyncIterator[Self]:
        """Connect, and say how it begins."""
        reader, writer = await server.connect()
        wire = cls(reader, writer)
        await wire.say(begun)
        try:
            yield wire
        finally:
            wire.leave()

    async def say(self, frames: bytes) -> None:
        """Send bytes; to whoever has hung up, in vain."""
        with contextlib.suppress(OSError):
            self._writer.write(frames)
            await self._writer.drain()

    def leave(self) -> None:
        """Go without a word: over TLS without a notice."""
        self._writer.transport.abort()

    async def hear(self) -> Heard | None:
        """The next frame; None at the end."""
        try:
            head = await self._reader.readexactly(9)
            payload = await self._reader.readexactly(int.from_bytes(head[:3], "big"))
        except (asyncio.IncompleteReadError, OSError):
            return None
        return Heard(head[3], head[4], int.from_bytes(head[5:], "big"), payload)

    async def next(self, *kinds: int, stream: int | None = None) -> Heard:
        """The next frame of these kinds, on this stream."""
        async with asyncio.timeout(WAIT_S):
            while (heard := await self.hear()) is not None:
                if heard.kind == HEADERS and heard.kind not in kinds:
                    self.status(heard)
                if heard.kind in kinds and stream in (None, heard.stream):
                    return heard
        raise ConnectionError("the server closed the connection")

    async def whole(self, stream: int) -> tuple[int, bytes]:
        """The status and the body of an answer, to its END_STREAM."""
        while (status := self.status(begun := await self.next(HEADERS, RST_STREAM, GOAWAY, stream=stream))) < 200:
            continue
        body, last = b"", begun
        while not last.flags & END_STREAM:
            last = await self.next(DATA, RST_STREAM, stream=stream)
            assert last.kind == DATA, last
            body += last.payload
        return status, body

    def status(self, heard: Heard) -> int:
        """What an answer begins with."""
        assert heard.kind == HEADERS, heard
        fields: dict[bytes, bytes] = dict(self._decoder.decode(heard.payload, raw=True))
        return int(fields[b":status"])

    async def goodbye(self) -> Heard:
        """The GOAWAY with which the server closes the connection, and nothing after it."""
        async with asyncio.timeout(WAIT_S):
            last = None
            while (heard := await self.hear()) is not None:
                last = heard
        assert last is not None
        assert last.kind == GOAWAY, last
        return last
