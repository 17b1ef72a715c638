"""An HTTP/2 client of few words, for what polite clients do not do: reset one stream, or leave without a word."""

import json
import socket
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import h2.connection
import h2.events


class RawClient:
    """One connection in clear text, with prior knowledge."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._authority = parts.netloc
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=20)
        self._connection = h2.connection.H2Connection()
        self._connection.initiate_connection()
        self._flush()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def post(self, path: str, body: object) -> int:
        """Send a request; the stream's number."""
        stream = self._connection.get_next_available_stream_id()
        headers = {":method": "POST", ":scheme": "http", ":authority": self._authority, ":path": path}
        self._connection.send_headers(stream, [*headers.items(), ("content-type", "application/json")])
        self._connection.send_data(stream, json.dumps(body).encode(), end_stream=True)
        self._flush()
        return stream

    def first_data(self, stream: int) -> bytes:
        """Wait for a piece of the answer's body."""
        while True:
            received = self._socket.recv(65536)
            assert received, "the server closed the connection"
            for event in self._connection.receive_data(received):
                if isinstance(event, h2.events.DataReceived):
                    self._connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    if event.stream_id == stream:
                        return event.data
            self._flush()

    def reset(self, stream: int) -> None:
        """RST_STREAM: this answer is not wanted any more."""
        self._connection.reset_stream(stream)
        self._flush()

    def _flush(self) -> None:
        self._socket.sendall(self._connection.data_to_send())
