"""An HTTP/2 client of few words, for what polite clients do not do: reset one stream, or leave without a word."""

import json
import socket
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

import h2.connection
import h2.events
from h2.config import H2Configuration
from h2.settings import SettingCodes, Settings


class RawClient:
    """One connection in clear text, with prior knowledge; `window` is what each of its streams opens with."""

    def __init__(self, url: str, *, window: int = 65_535) -> None:
        parts = urlsplit(url)
        self._authority = parts.netloc
        self._socket = socket.create_connection((parts.hostname, parts.port), timeout=20)
        self._connection = h2.connection.H2Connection(H2Configuration(validate_outbound_headers=False))
        settings = {SettingCodes.INITIAL_WINDOW_SIZE: window}
        self.bodies: dict[int, bytes] = {}
        self._connection.local_settings = Settings(client=True, initial_values=settings)
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
        stream = self.begin(path)
        self.send(stream, json.dumps(body).encode(), end=True)
        return stream

    def begin(self, path: str, *more: tuple[str, str]) -> int:
        """Send a request's headers, and these besides; the stream's number."""
        stream = self._connection.get_next_available_stream_id()
        headers = {":method": "POST", ":scheme": "http", ":authority": self._authority, ":path": path}
        self._connection.send_headers(stream, [*headers.items(), ("content-type", "application/json"), *more])
        self._flush()
        return stream

    def send(self, stream: int, data: bytes, *, end: bool = False) -> None:
        """Send a piece of a request's body."""
        self._connection.send_data(stream, data, end_stream=end)
        self._flush()

    def room(self, stream: int) -> int:
        """How much of a body may be sent in one piece now."""
        return min(self._connection.local_flow_control_window(stream), self._connection.max_outbound_frame_size)

    def status(self, stream: int) -> int:
        """Wait for an answer to end; its status."""
        status = None
        while True:
            for event in self.hear():
                if isinstance(event, h2.events.ResponseReceived) and event.stream_id == stream:
                    status = int(dict(event.headers)[b":status"])
                if isinstance(event, h2.events.StreamEnded) and event.stream_id == stream:
                    assert status is not None
                    return status

    def first_data(self, stream: int) -> bytes:
        """Wait for a piece of the answer's body."""
        while True:
            for event in self.hear():
                if isinstance(event, h2.events.DataReceived):
                    self._connection.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    if event.stream_id == stream:
                        self._flush()
                        return event.data
            self._flush()

    def hear(self) -> list[h2.events.Event]:
        """What comes next, kept in `bodies` too; no window is given back for it."""
        received = self._socket.recv(65536)
        assert received, "the server closed the connection"
        heard = self._connection.receive_data(received)
        for event in heard:
            if isinstance(event, h2.events.DataReceived):
                self.bodies[event.stream_id] = self.bodies.get(event.stream_id, b"") + event.data
        self._flush()
        return heard

    def open_window(self, stream: int | None, size: int) -> None:
        """Let so much more come of one stream; or of all together."""
        self._connection.increment_flow_control_window(size, stream)
        self._flush()

    def reset(self, stream: int) -> None:
        """RST_STREAM: this answer is not wanted any more."""
        self._connection.reset_stream(stream)
        self._flush()

    def _flush(self) -> None:
        self._socket.sendall(self._connection.data_to_send())
