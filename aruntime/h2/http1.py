"""Hypercorn's HTTP/1.1, with what it leaves unsaid."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import h11
from hypercorn.protocol.events import Event, Response
from hypercorn.protocol.h11 import H11Protocol


class Http1(H11Protocol):
    """An answer that comes before its request's end says that the connection ends with it (RFC 9112, 9.6).

    So does every answer while `leaving()`: the next request is then another connection's.

    An upgrade to HTTP/2 is not offered (RFC 9113 has none): the answer is HTTP/1.1's.
    """

    def __init__(self, *connection: Any, leaving: Callable[[], bool]) -> None:
        super().__init__(*connection)
        self._leaving = leaving

    async def stream_send(self, event: Event) -> None:
        """Send a part of an answer."""
        if isinstance(event, Response) and (self._leaving() or self.connection.their_state is h11.SEND_BODY):
            event = replace(event, headers=[*event.headers, (b"connection", b"close")])
        await super().stream_send(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        pass
