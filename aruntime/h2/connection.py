"""One HTTP/2 connection: requests in, answers out, in one write a turn of the loop.

    data_received ─► Frames, a few a turn ─► h2 ─► events ─► streams ─► the application's tasks
    Stream.send, Stream.write ─► Outbox ─► one write at the end of the turn

h2 keeps the states of the protocol and the flow-control windows.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from time import time
from typing import Any, cast

import h2.events
import h2.exceptions
from h2.errors import ErrorCodes
from hypercorn.config import Config

from aruntime.h2.frames import Flood, Frames
from aruntime.h2.limits import H2Limits
from aruntime.h2.outbox import Outbox
from aruntime.h2.protocol import are_trailers, protocol, request_scope
from aruntime.h2.stream import Headers, Stream

# ASGI's own types differ between hypercorn and everybody else.
App = Callable[..., Awaitable[None]]

_UNREAD_BYTES_MAX = 256 << 10  # of frames that have not had their turn, before the socket waits too
_UNSENT_BYTES_MAX = 256 << 10  # of what is said beside the answers, before no more frames are read
_LOOKS = 8  # at those who wait, in the time that they may
_LINGER_S = 1.0
_CREDIT_BYTES = 16 << 10  # read, before the client hears of it: a quarter of the smallest window


class Connection(asyncio.Protocol):
    """Serves `app` on one transport until `closed` is done. `scope` is what all its requests have in common."""

    def __init__(self, app: App, config: Config, limits: H2Limits, scope: dict[str, Any]) -> None:
        self._loop = asyncio.get_running_loop()
        self.closed: asyncio.Future[None] = self._loop.create_future()
        self.tasks: set[asyncio.Task[None]] = set()  # of the application; they may outlive the connection
        self._app, self._config, self._limits, self._scope = app, config, limits, scope
        self._h2 = protocol(config)
        self._transport: asyncio.Transport
        self._streams: dict[int, Stream] = {}
        self._frames = Frames(limits, config.h2_max_header_list_size, self._streams, self._loop.time())
        self._outbox = Outbox(self._h2, self._watch, self.send_end)
        self.send_data = self._outbox.data  # for the streams
        self._part_s = 0.0  # since when a frame or a header block has not ended
        self._reading_later = self._deaf = False
        self._opened = False  # a window has grown
        self._early: dict[int, Stream] = {}  # those that were answered before all of their request had come
        self._owed = 0  # bytes of bodies that were read, and not credited
        self._draining = self._leaving = False
        self._closing = False
        self._rest_timer: asyncio.TimerHandle | None = None
        self._watch_timer: asyncio.TimerHandle | None = None

    def start(self, transport: asyncio.Transport, received: bytes) -> None:
        """Take over a transport whose client has said `received` already."""
        self._transport = transport
        self._outbox.open(transport)
        transport.set_protocol(self)
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(max(0, self._limits.received_bytes_max - 65_535))
        self._rest(self._limits.greeting_s_max)
        self.data_received(received)

    def leave(self) -> None:
        """Close when no request runs and none comes for a little; those that come until then are answered."""
        self._leaving = True
        if not self._streams:
            self._rest(self._limits.last_rest_s)

    def drain(self) -> None:
        """Take no new requests; close when those that run have been answered."""
        self._draining = True
        for stream in list(self._early.values()):
            self._reset(stream, ErrorCodes.NO_ERROR)
        self._close_if_done()

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        """Bytes of the client. What is more than a few frames waits for the loop's next turns."""
        if self._closing:
            return
        self._frames.put(data)
        if not self._reading_later:
            self._read()
        elif len(self._frames) > _UNREAD_BYTES_MAX:
            self._deaf = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        """The client sends no more; nor will it read, by the habits of HTTP/2."""
        return False

    def pause_writing(self) -> None:
        """The network takes no more for now."""
        self._outbox.pause()

    def resume_writing(self) -> None:
        """The network takes more."""
        self._outbox.resume()
        if self._deaf and not self._reading_later:
            self._read()

    def connection_lost(self, exc: Exception | None) -> None:
        """It is over, for every stream of it."""
        for timer in (self._rest_timer, self._watch_timer):
            if timer is not None:
                timer.cancel()
        self._frames.clear()
        for stream in list(self._streams.values()):
            stream.go("the client has gone")
        self._streams.clear()
        self._outbox.waiting.clear()
        self._early.clear()
        if not self.closed.done():
            self.closed.set_result(None)

    # What the streams call.

    def send_headers(self, stream: Stream, status: int, headers: Headers) -> None:
        """Begin an answer."""
        fields = [(b":status", b"%d" % status), *headers, *self._config.response_headers("h2")]
        try:
            self._h2.send_headers(stream.id, [(name.lower(), value) for name, value in fields])
        except h2.exceptions.ProtocolError as error:
            self._forget(stream, str(error))
            raise ConnectionResetError(str(error)) from None
        self._frames.earn()
        self._outbox.control()

    def send_end(self, stream: Stream) -> None:
        """END_STREAM, now or when all that is pending went out."""
        if stream.pending:
            return
        self._outbox.control()
        try:
            self._h2.end_stream(stream.id)
            self._frames.earn()
            if self._draining and not stream.whole:
                self._h2.reset_stream(stream.id, ErrorCodes.NO_ERROR)
        except h2.exceptions.ProtocolError:  # to h2 a connection is over once its client has said goodbye
            self._outbox.end_stream(stream.id)
        self._outbox.control()
        stream.end()
        if stream.whole or self._draining:
            self._forget(stream)
        else:
            self._hear_out(stream)

    def credit(self, stream: Stream, size: int) -> None:
        """The application has read `size` bytes of a body: the client may send as many more."""
        if self._closing:
            return
        self._owe(size)
        stream.owed += size
        if stream.owed >= _CREDIT_BYTES and not (stream.whole or stream.gone):
            self._h2.increment_flow_control_window(stream.owed, stream.id)
            stream.owed = 0
            self._outbox.control()

    def _owe(self, size: int) -> None:
        """Give the connection's window back, in large pieces."""
        self._owed += size
        if self._owed >= _CREDIT_BYTES:
            self._h2.increment_flow_control_window(self._owed)
            self._owed = 0
            self._outbox.control()

    # Frames that come.

    def _read(self) -> None:
        """Read some frames; if there are more, the others of the loop have their turn first."""
        self._reading_later = ended = False
        greeted = self._frames.greeted
        self._frames.earn(self._outbox.take_sent())
        now_s = self._loop.time()
        turn_ends_s = now_s + self._limits.turn_s_max
        try:
            while not self._is_mute() and (frame := self._frames.next(self._h2.max_inbound_frame_size, now_s)):
                for event in self._h2.receive_data(frame):
                    if (handle := _HANDLERS.get(type(event))) is not None:
                        handle(self, event)
                ended |= not self._frames.amid_headers
                now_s = self._loop.time()
                if now_s > turn_ends_s:
                    self._reading_later = True
                    self._loop.call_soon(self._read)
                    break
        except Flood:
            self._go_away(ErrorCodes.ENHANCE_YOUR_CALM)
            return
        except h2.exceptions.ProtocolError:  # h2 has written the GOAWAY that says why
            self._close()
            return
        if not greeted and self._frames.greeted and not self._streams:
            self._rest(self._config.keep_alive_timeout)
        if self._opened:
            self._opened = False
            self._outbox.pump()
        self._outbox.control()
        self._mind_part(ended)
        if self._deaf and len(self._frames) <= _UNREAD_BYTES_MAX and not (self._closing or self._is_mute()):
            self._deaf = False
            self._transport.resume_reading()

    def _is_mute(self) -> bool:
        """Whether a client is asked too much for what it hears: then what it says waits in its own hands."""
        if not self._outbox.full_s or self._transport.get_write_buffer_size() <= _UNSENT_BYTES_MAX:
            return False
        if not self._deaf:
            self._deaf = True
            self._transport.pause_reading()
        return True

    def _mind_part(self, ended: bool) -> None:
        """Watch a frame that has come in part, or a header block; `ended`: it is not the one that was watched."""
        if not self._frames and not self._frames.amid_headers:
            self._part_s = 0.0
        elif ended or not self._part_s:
            self._part_s = self._loop.time()
            self._watch()

    def _request(self, event: h2.events.RequestReceived) -> None:
        stream_id = event.stream_id
        most = self._config.h2_max_concurrent_streams
        # A stream that was reset is gone, its task not yet.
        if self._draining or len(self._streams) >= most or len(self.tasks) >= 2 * most:
            self._h2.reset_stream(stream_id, ErrorCodes.REFUSED_STREAM)
            return
        scope = request_scope(event.headers, has_body=event.stream_ended is None, common=self._scope)
        if scope is None:
            self._h2.reset_stream(stream_id, ErrorCodes.PROTOCOL_ERROR)
            return
        stream = Stream(self, stream_id, self._h2.streams[stream_id], scope, self._limits.pending_bytes_max)
        self._streams[stream_id] = stream
        self._stop_resting()
        if event.stream_ended is None and (b"expect", b"100-continue") in scope["headers"]:
            self._h2.send_headers(stream_id, [(b":status", b"100")])
        task = self._loop.create_task(self._run(stream))
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def _data(self, event: h2.events.DataReceived) -> None:
        stream = self._streams.get(event.stream_id)
        if stream is None or (stream.ended and event.stream_ended):
            self._owe(event.flow_controlled_length)
            return
        if stream.ended:
            self.credit(stream, event.flow_controlled_length)
            return
        stream.put(event.data)
        if padding := event.flow_controlled_length - len(event.data):
            self.credit(stream, padding)

    def _trailers(self, event: h2.events.TrailersReceived) -> None:
        if (stream := self._streams.get(event.stream_id)) is not None and not are_trailers(event.headers):
            self._reset(stream, ErrorCodes.PROTOCOL_ERROR, "the client's trailers are malformed")

    def _request_ended(self, event: h2.events.StreamEnded) -> None:
        if (stream := self._streams.get(event.stream_id)) is not None:
            stream.put_end()
            if stream.ended:
                self._forget(stream)

    def _reset_by_client(self, event: h2.events.StreamReset) -> None:
        if (stream := self._streams.get(event.stream_id)) is not None:
            self._forget(stream, "the client has reset the stream")

    def _window_opened(self, _event: h2.events.Event) -> None:
        self._opened = True

    def _terminated(self, event: h2.events.ConnectionTerminated) -> None:
        if event.error_code == ErrorCodes.NO_ERROR:
            self.drain()
        else:
            self._close()

    # Ends.

    async def _run(self, stream: Stream) -> None:
        """Have the application answer one request."""
        if stream.gone:  # reset in the same breath
            return
        begun_s, log = time(), cast(Any, self._config.log)
        spawn = partial(self._loop.run_in_executor, None)
        try:
            await self._app(stream.scope, stream.receive, stream.send, spawn, _no_threads)
        except Exception as error:
            if not (stream.gone and isinstance(error, OSError)):
                await log.exception("Error in ASGI Framework")
        finally:
            if not (stream.gone or stream.ending):
                self._fail(stream)
        await log.access(stream.scope, stream.response, time() - begun_s)

    def _fail(self, stream: Stream) -> None:
        """The application has ended before its answer."""
        if stream.response is not None:
            self._reset(stream, ErrorCodes.INTERNAL_ERROR, "the application failed")
            return
        with contextlib.suppress(ConnectionResetError):
            self.send_headers(stream, 500, [(b"content-length", b"0")])
            self.send_end(stream)

    def _hear_out(self, stream: Stream) -> None:
        """Drop the rest of a request that was answered, for a while.

        RFC 9113 (8.1) lets it be reset at once; but clients that are told so amid their body lose the answer: curl 7.88
        fails, httpx waits for a window for ever.
        """
        stream.wait(self._loop.time())
        self._early[stream.id] = stream
        self.credit(stream, stream.drop_body())
        self._watch()

    def _reset(self, stream: Stream, code: ErrorCodes, why: str = "") -> None:
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self._h2.reset_stream(stream.id, code)
        self._outbox.control()
        self._forget(stream, why)

    def _forget(self, stream: Stream, why: str = "") -> None:
        """The stream is over: its answer has ended, or nobody waits for it."""
        if self._streams.pop(stream.id, None) is None:
            return
        self._outbox.waiting.pop(stream.id, None)
        self._early.pop(stream.id, None)
        if why:
            stream.go(why)
        self.credit(stream, stream.drop_body())
        if not self._streams:
            self._rest(self._config.keep_alive_timeout)
        self._close_if_done()

    def _close_if_done(self) -> None:
        if (self._draining or self._leaving) and not self._streams:
            self._go_away(ErrorCodes.NO_ERROR)

    def _go_away(self, code: ErrorCodes) -> None:
        with contextlib.suppress(h2.exceptions.ProtocolError):
            self._h2.close_connection(code)
        self._close()

    def _close(self) -> None:
        """Say no more, and listen a little: to close upon unread bytes would take the last words from the client."""
        if self._closing:
            return
        self._outbox.close()
        self._closing = True
        self._frames.clear()
        if self._transport.is_closing():
            return
        if self._deaf:
            self._transport.resume_reading()
        if self._transport.can_write_eof():
            self._transport.write_eof()
            self._loop.call_later(_LINGER_S, self._transport.close)
        else:
            self._transport.close()
        self._loop.call_later(self._limits.stall_s_max, self._transport.abort)

    # Time.

    def _rest(self, timeout_s: float) -> None:
        """No request runs: go away, unless one comes in time."""
        self._stop_resting()
        if self._leaving:
            timeout_s = min(timeout_s, self._limits.last_rest_s)
        self._rest_timer = self._loop.call_later(timeout_s, self._go_away, ErrorCodes.NO_ERROR)

    def _stop_resting(self) -> None:
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None

    def _watch(self) -> None:
        if self._watch_timer is None:
            self._watch_timer = self._loop.call_later(self._limits.stall_s_max / _LOOKS, self._look)

    def _look(self) -> None:
        """End what has waited too long for the client: streams that it does not read, or all of it."""
        self._watch_timer = None
        too_old_s = self._loop.time() - self._limits.stall_s_max
        full_s, waiting = self._outbox.full_s, self._outbox.waiting
        if full_s and full_s < too_old_s:
            self._transport.abort()
            return
        if self._part_s and self._part_s < too_old_s:
            self._go_away(ErrorCodes.ENHANCE_YOUR_CALM)
            return
        if not full_s:
            for stream in [stream for stream in waiting.values() if stream.moved_s < too_old_s]:
                stream.go("the client does not read", stalled=True)
                self._reset(stream, ErrorCodes.CANCEL, stream.gone)
        for stream in [stream for stream in self._early.values() if stream.moved_s < too_old_s]:
            self._reset(stream, ErrorCodes.NO_ERROR)
        if full_s or waiting or self._early or self._part_s:
            self._watch()


_HANDLERS: dict[type, Callable[[Connection, Any], None]] = {
    h2.events.RequestReceived: Connection._request,
    h2.events.DataReceived: Connection._data,
    h2.events.TrailersReceived: Connection._trailers,
    h2.events.StreamEnded: Connection._request_ended,
    h2.events.StreamReset: Connection._reset_by_client,
    h2.events.WindowUpdated: Connection._window_opened,
    h2.events.RemoteSettingsChanged: Connection._window_opened,
    h2.events.ConnectionTerminated: Connection._terminated,
}


def _no_threads(*_: Any) -> None:
    raise RuntimeError("only ASGI applications are served")
