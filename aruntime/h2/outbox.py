"""What one connection sends, in one write a turn of the loop.

    DATA frames of answers, while the windows have room ─┐
        what has none waits in its stream, each in turn  ├─► one write at the end of the turn
    all else, as h2 has written it ──────────────────────┘

h2 keeps the windows; DATA frames are packed here, because that is what a server of streams does all day. There is no
priority tree: RFC 9113 has none.
"""

import asyncio
from collections.abc import Callable

from h2.connection import H2Connection

from aruntime.h2.stream import Stream

_END_STREAM = b"\x00\x00\x00\x00\x01"  # the head of an empty DATA frame, but for its stream


class Outbox:
    """Sends by the transport that it is opened with.

    `on_wait()` is called when a stream has to wait for the client, `on_drained(stream)` when all that a stream had
    pending, and nothing will follow, is on its way.
    """

    def __init__(self, state: H2Connection, on_wait: Callable[[], None], on_drained: Callable[[Stream], None]) -> None:
        self.waiting: dict[int, Stream] = {}  # streams with pending bytes, in turn
        self.full_s = 0.0  # since when the network takes no more; 0 while it does
        self._frames_sent = 0
        self._loop = asyncio.get_running_loop()
        self._h2 = state
        self._on_wait, self._on_drained = on_wait, on_drained
        self._transport: asyncio.Transport
        self._out: list[bytes] = []
        self._flushing = self._closed = False

    def open(self, transport: asyncio.Transport) -> None:
        """From now on there is somebody to send to."""
        self._transport = transport

    def data(self, stream: Stream, data: bytes) -> None:
        """Send a piece of an answer, or keep it until there is room."""
        size = len(data)
        if (
            not stream.pending
            and not self.full_s
            and size <= stream.state.outbound_flow_control_window
            and size <= self._h2.outbound_flow_control_window
            and size <= self._h2.max_outbound_frame_size
        ):
            self._frame(stream, data, size)
            return
        if not stream.pending:
            stream.wait(self._loop.time())
            self.waiting[stream.id] = stream
        stream.pending += data
        if stream.state.outbound_flow_control_window > 0 and self._h2.outbound_flow_control_window > 0:
            self.pump()  # else nothing can move: the others had their turn when they had a window
        if self.waiting:
            self._on_wait()

    def take_sent(self) -> int:
        """How many frames of data were sent since this was asked."""
        sent, self._frames_sent = self._frames_sent, 0
        return sent

    def control(self) -> None:
        """Send what h2 has written, after all that was sent before it."""
        if data := self._h2.data_to_send():
            self._put(data)

    def end_stream(self, stream_id: int) -> None:
        """END_STREAM, which h2 does not write any more."""
        self._put(_END_STREAM + stream_id.to_bytes(4, "big"))

    def pump(self) -> None:
        """Send what is pending as far as there is room, a frame of each stream in turn."""
        moves = True
        while moves and self.waiting and not self.full_s:
            moves = False
            for stream in list(self.waiting.values()):
                window = min(stream.state.outbound_flow_control_window, self._h2.outbound_flow_control_window)
                size = min(len(stream.pending), window, self._h2.max_outbound_frame_size)
                if size <= 0:
                    continue
                moves = True
                self._frame(stream, bytes(stream.pending[:size]), size)
                del stream.pending[:size], self.waiting[stream.id]
                if stream.pending:
                    self.waiting[stream.id] = stream  # behind the others: the next window is theirs
                elif stream.ending:
                    self._on_drained(stream)
                stream.moved(size, self._loop.time())
            self.flush()

    def pause(self) -> None:
        """The network takes no more for now."""
        self.full_s = self._loop.time()
        self._on_wait()

    def resume(self) -> None:
        """The network takes more."""
        self.full_s = 0.0
        self.pump()

    def flush(self) -> None:
        """Write what there is."""
        self._flushing = False
        if self._out and not (self._closed or self._transport.is_closing()):
            self._transport.write(b"".join(self._out))
        self._out.clear()

    def close(self) -> None:
        """Write the last words."""
        self.control()
        self.flush()
        self._closed = True

    def _frame(self, stream: Stream, data: bytes, size: int) -> None:
        """One DATA frame, for which there is room."""
        self._h2.outbound_flow_control_window -= size
        stream.state.outbound_flow_control_window -= size
        self._frames_sent += 1
        out = self._out
        out.append(size.to_bytes(3, "big") + stream.head)
        out.append(data)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)

    def _put(self, data: bytes) -> None:
        self._out.append(data)
        if not self._flushing:
            self._flushing = True
            self._loop.call_soon(self.flush)
