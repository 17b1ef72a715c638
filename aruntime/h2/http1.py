"""Hypercorn's HTTP/1.1, with what it leaves unsaid."""

from dataclasses import replace

import h11
from hypercorn.protocol.events import Event, Response
from hypercorn.protocol.h11 import H11Protocol


class Http1(H11Protocol):
    """An answer that comes before its request's end says that the connection ends with it (RFC 9112, 9.6).

    An upgrade to HTTP/2 is not offered (RFC 9113 has none): the answer is HTTP/1.1's.
    """

    async def stream_send(self, event: Event) -> None:
        """Send a part of an answer."""
        if isinstance(event, Response) and self.connection.their_state is h11.SEND_BODY:
            event = replace(event, headers=[*event.headers, (b"connection", b"close")])
        await super().stream_send(event)

    async def _check_protocol(self, event: h11.Request) -> None:
        pass
