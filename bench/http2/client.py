"""A client that costs little and believes nothing: HTTP/2 frames packed by hand, and every byte of an answer checked.

Its windows are as large as the protocol allows, so it never gives any back, and a server is measured alone.
"""

import asyncio
import ssl
import struct
from collections.abc import Callable
from typing import Any, Protocol, Self

import hpack

_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_WINDOW = 2**31 - 1
_HEAD = struct.Struct(">BHBBI")  # length in two parts, type, flags, stream
_DATA, _HEADERS, _RESET, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _ACK, _END_HEADERS, _PADDED, _PRIORITY = 1, 1, 4, 8, 32
_STREAM_WINDOW = 4  # the setting's number


class Wrong(Exception):
    """The server has not answered as it should; what it cost says nothing then."""


class Answer(Protocol):
    """What takes the body of one answer."""

    def take(self, data: bytes) -> None:
        """A piece of it."""

    def end(self) -> None:
        """That was all. Wrong: it is not what was asked for."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """A frame (RFC 9113, 4.1)."""
    return _HEAD.pack(len(payload) >> 16, len(payload) & 0xFFFF, kind, flags, stream) + payload


def field(name: str, value: str) -> bytes:
    """A header that no table keeps (RFC 7541, 6.2.2), of less than 127 bytes."""
    return b"\x00" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()


class Connection(asyncio.Protocol):
    """One connection of HTTP/2."""

    def __init__(self, authority: str, scheme: str, on_wrong: Callable[[Exception], None]) -> None:
        self._common = field(":scheme", scheme) + field(":authority", authority)
        self._on_wrong = on_wrong
        self._answers: dict[int, Answer] = {}
        self._decoder = hpack.Decoder()
        self._rest = b""
        self._next = 1
        self._transport: Any
        self._closed = False

    @classmethod
    async def open(
        cls, host: str, port: int, trust: ssl.SSLContext | None, on_wrong: Callable[[Exception], None]
    ) -> Self:
        """Connect; with `trust` over TLS. `on_wrong` is told what the server does wrong."""
        scheme = "http" if trust is None else "https"
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: cls(f"{host}:{port}", scheme, on_wrong), host, port, ssl=trust
        )
        return connection

    def ask(self, path: str, answer: Answer, body: bytes = b"") -> None:
        """Send a request, a POST of JSON if it has a body."""
        stream, self._next = self._next, self._next + 2
        self._answers[stream] = answer
        headers = field(":method", "POST" if body else "GET") + field(":path", path) + self._common
        if body:
            headers += field("content-type", "application/json") + field("content-length", str(len(body)))
        ends = 0 if body else _END_STREAM
        data = frame(_DATA, _END_STREAM, stream, body) if body else b""
        self._transport.write(frame(_HEADERS, _END_HEADERS | ends, stream, headers) + data)

    def close(self) -> None:
        """Leave."""
        self._closed = True
        self._transport.close()

    def connection_made(self, transport: Any) -> None:  # uvloop's is not asyncio's
        self._transport = transport
        tls = transport.get_extra_info("ssl_object")
        if tls is not None and tls.selected_alpn_protocol() != "h2":
            self._on_wrong(Wrong("TLS without HTTP/2"))
        settings = frame(_SETTINGS, 0, 0, struct.pack(">HI", _STREAM_WINDOW, _WINDOW))
        window = frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", _WINDOW - 65_535))
        transport.write(_PREFACE + settings + window)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed:
            self._on_wrong(exc or Wrong("the server closed a connection"))

    def data_received(self, data: bytes) -> None:
        if self._rest:
            data = self._rest + data
        at, size = 0, len(data)
        while size - at >= 9:
            high, low, kind, flags, stream = _HEAD.unpack_from(data, at)
            end = at + 9 + (high << 16 | low)
            if end > size:
                break
            try:
                if kind == _DATA and not flags:
                    self._answers[stream].take(data[at + 9 : end])
                else:
                    self._other(kind, flags, stream, data[at + 9 : end])
            except Exception as error:
                self._on_wrong(error)
            at = end
        self._rest = data[at:]

    def _other(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        match kind:
            case 0 | 1 if flags & (_PADDED | _PRIORITY) or (kind == _HEADERS and not flags & _END_HEADERS):
                raise Wrong("a frame that this client does not read")
            case 0:
                self._answers[stream].take(payload)
            case 1:
                fields = dict(self._decoder.decode(payload, raw=True))
                if fields.get(b":status", b"200") != b"200":
                    raise Wrong(f"status {fields[b':status']!r}")
            case 3 if stream in self._answers:
                raise Wrong(f"stream {stream} was reset")
            case 4 if not flags & _ACK:
                self._transport.write(frame(_SETTINGS, _ACK, 0))
            case 6 if not flags & _ACK:
                self._transport.write(frame(_PING, _ACK, 0, payload))
            case 7:
                raise Wrong(f"the server goes away: {payload!r}")
        if kind in (_DATA, _HEADERS) and flags & _END_STREAM:
            self._answers.pop(stream).end()


class Http1Connection(asyncio.Protocol):
    """One connection of HTTP/1.1, a request at a time."""

    def __init__(self, authority: str, on_wrong: Callable[[Exception], None]) -> None:
        self._authority = authority
        self._on_wrong = on_wrong
        self._answer: Answer
        self._received = b""
        self._transport: Any
        self._closed = False

    @classmethod
    async def open(cls, host: str, port: int, on_wrong: Callable[[Exception], None]) -> Self:
        """Connect, in clear text."""
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: cls(f"{host}:{port}", on_wrong), host, port
        )
        return connection

    def ask(self, path: str, answer: Answer, body: bytes) -> None:
        """POST JSON, once the last answer has ended."""
        self._answer = answer
        head = f"POST {path} HTTP/1.1\r\nhost: {self._authority}\r\ncontent-type: application/json\r\n"
        self._transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)

    def close(self) -> None:
        """Leave."""
        self._closed = True
        self._transport.close()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._closed:
            self._on_wrong(exc or Wrong("the server closed a connection"))

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, ended, body = self._received.partition(b"\r\n\r\n")
        if not ended:
            return
        try:
            size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            if not head.startswith(b"HTTP/1.1 200 ") or len(body) > size:
                raise Wrong(f"the answer begins {head[:40]!r}")
            if len(body) == size:
                self._received = b""
                self._answer.take(body)
                self._answer.end()
        except Exception as error:
            self._on_wrong(error)


class EventsInOrder:
    """Takes a stream of the application's events: all of them, once, in their order."""

    def __init__(self, whole: bytes, event_bytes: int, last_event: Callable[[int], bytes]) -> None:
        self._whole, self._event_bytes, self._last_event = whole, event_bytes, last_event
        self._at = 0
        self._other = b""  # what follows the events
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def events(self) -> int:
        """How many came so far."""
        return self._at // self._event_bytes

    def take(self, data: bytes) -> None:
        if not self._other and self._whole.startswith(data, self._at):
            self._at += len(data)
        else:
            self._other += data

    def end(self) -> None:
        count = (self._at + len(self._other)) // self._event_bytes - 1
        received = self._whole[: self._at] + self._other
        if received != self._whole[: count * self._event_bytes] + self._last_event(count):
            raise Wrong(f"a stream of {count} events is not what was sent: it ends {self._other[-300:]!r}")
        self.ended.set_result(None)


class Whole:
    """Takes one short answer, and calls `then` with it."""

    def __init__(self, then: Callable[[bytes], None]) -> None:
        self._then = then
        self._got = b""

    def take(self, data: bytes) -> None:
        self._got += data

    def end(self) -> None:
        self._then(self._got)
