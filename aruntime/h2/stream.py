"""One request of an HTTP/2 connection and its answer, as ASGI sees them.

    open ──http.response.start──► answering ──the last body──► ended
      └──reset, the connection lost──► gone      send raises ConnectionResetError, receive says http.disconnect
      └──the client does not read──► gone        the same, but TimeoutError

An application may also write without awaiting, once its answer has begun: `scope["extensions"]["http.response.write"]`
is this stream. What it writes goes out with all else that the connection has, at the end of the loop's turn.
"""

import asyncio
from typing import Any, Protocol

from hypercorn.utils import suppress_body

Headers = list[tuple[bytes, bytes]]
EXTENSION = "http.response.write"
_MOVE_BYTES = 1024


class Carrier(Protocol):
    """The connection, as its streams see it."""

    def send_headers(self, stream: "Stream", status: int, headers: Headers) -> None: ...
    def send_data(self, stream: "Stream", data: bytes) -> None: ...
    def send_end(self, stream: "Stream") -> None: ...
    def credit(self, stream: "Stream", size: int) -> None: ...


class Writer(Protocol):
    """What an application writes to, once its answer has begun: a stream, or a connection of HTTP/1.1."""

    def write(self, data: bytes) -> bool: ...
    async def drained(self) -> None: ...


class Stream:
    """The request `scope` on the stream `id`; `state` is h2's own of it, which holds its flow-control window."""

    __slots__ = (
        "_body", "_carrier", "_drained", "_moved_bytes", "_reader", "_stalled", "_suppressed", "_told", "_whole",
        "ended", "ending", "gone", "head", "id", "moved_s", "owed", "pending", "response", "scope", "state",
        "wait_above",
    )  # fmt: skip

    def __init__(self, carrier: Carrier, stream_id: int, state: Any, scope: dict[str, Any], wait_above: int) -> None:
        self.id = stream_id
        self.state = state
        self.scope = scope
        self.head = b"\x00\x00" + stream_id.to_bytes(4, "big")  # what follows the length in the head of a DATA frame
        self.pending = bytearray()  # of the answer, what the client's windows have no room for
        self.wait_above = wait_above  # so many bytes pending, and its writer waits
        self.moved_s = 0.0  # since when the client has taken less than _MOVE_BYTES of it
        self._moved_bytes = 0
        self._stalled = False
        self.owed = 0  # bytes of the body that were read, and not credited
        self.ending = False  # nothing more will be written
        self.ended = False  # END_STREAM is on its way
        self.gone = ""  # why nobody waits for the answer any more
        self._carrier = carrier
        self.response: dict[str, Any] | None = None  # the message that began the answer
        self._suppressed = False
        self._body = bytearray()  # of the request, what nobody has read
        self._whole = self._told = False  # all of it has come; the application knows
        self._reader: asyncio.Future[None] | None = None
        self._drained: asyncio.Future[None] | None = None
        scope["extensions"][EXTENSION] = self

    # For the application.

    async def receive(self) -> dict[str, Any]:
        """The next piece of the request's body; after the last, wait until the client or the answer has gone."""
        while True:
            if self._body or (self._whole and not self._told and not self.gone):
                return self._next_piece()
            if self.gone or self.ended:
                return {"type": "http.disconnect"}
            self._reader = asyncio.get_running_loop().create_future()
            try:
                await self._reader
            finally:
                self._reader = None

    async def send(self, message: dict[str, Any]) -> None:
        """Take a message of the answer, and wait while too much of it waits for the client.

        ConnectionResetError when the client has gone, TimeoutError when it does not read.
        """
        kind = message["type"]
        if self.gone:
            raise self._error()
        if kind == "http.response.start" and self.response is None:
            self.response = message
            self._suppressed = suppress_body(self.scope["method"], message["status"])
            self._carrier.send_headers(self, message["status"], list(message.get("headers", ())))
        elif kind == "http.response.body" and self.response is not None and not self.ending:
            self.write(message.get("body", b""))
            if message.get("more_body", False):
                await self.drained()
            else:
                self.ending = True
                self._carrier.send_end(self)
                await self._until_pending(0)
        else:
            raise RuntimeError(f"{kind} has no place here")

    def write(self, data: bytes) -> bool:
        """Take a piece of the answer's body. False when its writer should wait: `drained`."""
        if self.gone or not data or self._suppressed:
            return True
        self._carrier.send_data(self, data)
        return len(self.pending) <= self.wait_above

    async def drained(self) -> None:
        """If too much is pending, wait until a good part of it is on its way.

        ConnectionResetError when the client has gone, TimeoutError when it does not read.
        """
        await self._until_pending(self.wait_above // 4 if len(self.pending) > self.wait_above else self.wait_above)

    # For the connection.

    def put(self, data: bytes) -> None:
        """A piece of the request's body has come."""
        self._body += data
        self._wake(self._reader)

    def put_end(self) -> None:
        """All of the request has come."""
        self._whole = True
        self._wake(self._reader)

    @property
    def whole(self) -> bool:
        """Whether all of the request has come."""
        return self._whole

    def drop_body(self) -> int:
        """Forget what came of the request and was not read: how many bytes."""
        size = len(self._body)
        self._body.clear()
        return size

    def wait(self, now_s: float) -> None:
        """The first bytes are pending."""
        self.moved_s, self._moved_bytes = now_s, 0

    def moved(self, size: int, now_s: float) -> None:
        """So many of the pending bytes are on their way. A client that takes a few at a time does not read."""
        self._moved_bytes += size
        if self._moved_bytes >= _MOVE_BYTES:
            self.wait(now_s)
        self._wake(self._drained)

    def end(self) -> None:
        """END_STREAM is on its way."""
        self.ended = True
        self._wake(self._reader)

    def go(self, why: str, *, stalled: bool = False) -> None:
        """Nobody waits for the answer any more; because nobody reads it, if it is `stalled`."""
        if not self.gone:
            self.gone, self._stalled = why, stalled
        self.pending.clear()
        self._wake(self._drained)
        self._wake(self._reader)

    async def _until_pending(self, size: int) -> None:
        while len(self.pending) > size and not self.gone:
            self._drained = asyncio.get_running_loop().create_future()
            try:
                await self._drained
            finally:
                self._drained = None
        if self.gone:
            raise self._error()

    def _error(self) -> OSError:
        return TimeoutError(self.gone) if self._stalled else ConnectionResetError(self.gone)

    def _next_piece(self) -> dict[str, Any]:
        body = bytes(self._body)
        self._body.clear()
        self._carrier.credit(self, len(body))
        self._told = self._whole
        return {"type": "http.request", "body": body, "more_body": not self._whole}

    @staticmethod
    def _wake(waiter: asyncio.Future[None] | None) -> None:
        if waiter is not None and not waiter.done():
            waiter.set_result(None)
