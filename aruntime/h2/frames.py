"""A client's bytes, cut into frames, each of them paid for.

bytes ─► preface ─► frames ──whole, not too many trifles, no endless header block──► h2
                                └──else─► Flood: the connection ends
"""

from collections.abc import Container

from aruntime.h2.limits import H2Limits
from aruntime.h2.protocol import PREFACE
from aruntime.h2.trifles import CONTINUATION, DATA, HEADERS, Trifles, price

_HEAD_BYTES = 9  # of a frame
_END_HEADERS, _PADDED = 4, 8


class Flood(Exception):
    """The client sends too much that is of no use."""


class Frames:
    """The frames that a client has sent and that nobody has read yet.

    `open_streams` are those whose data is of use; `headers_bytes_max` bounds a header block, frame heads included.
    """

    def __init__(self, limits: H2Limits, headers_bytes_max: int, open_streams: Container[int], now_s: float) -> None:
        self.greeted = False  # the preface has been read
        self._received = bytearray()
        self._headers_bytes_max = headers_bytes_max
        self._open_streams = open_streams
        self._block_bytes = 0  # of the header block that has begun and not ended
        self._trifles = Trifles(limits.trifles_max, limits.trifles_per_s, now_s)
        self._earned = 0

    def __len__(self) -> int:
        return len(self._received)

    @property
    def amid_headers(self) -> bool:
        """Whether a header block has begun and not ended."""
        return self._block_bytes > 0

    def put(self, data: bytes) -> None:
        """More bytes have come."""
        self._received += data

    def clear(self) -> None:
        """Nothing more will be read."""
        self._received.clear()

    def earn(self, frames: int = 1) -> None:
        """Frames of answers were sent: the client may send as many trifles more."""
        self._earned += frames

    def next(self, frame_bytes_max: int, now_s: float) -> bytes:
        """The next frame, or the preface; nothing until all of it has come. Flood when it is one too many.

        A frame longer than `frame_bytes_max` comes as far as it has come: h2 says what is wrong with it.
        """
        size = self._next_bytes(frame_bytes_max, now_s)
        frame = bytes(self._received[:size])
        del self._received[:size]
        return frame

    def _next_bytes(self, frame_bytes_max: int, now_s: float) -> int:
        received = self._received
        if not self.greeted:
            if len(received) < len(PREFACE):
                return 0
            self.greeted = True
            return len(PREFACE)
        if len(received) < _HEAD_BYTES:
            return 0
        size = int.from_bytes(received[:3], "big")
        if size > frame_bytes_max:
            return len(received)
        if len(received) < _HEAD_BYTES + size:
            return 0
        self._charge(received[3], received[4], size, now_s)
        return _HEAD_BYTES + size

    def _charge(self, kind: int, flags: int, size: int, now_s: float) -> None:
        if kind == DATA:
            if int.from_bytes(self._received[5:9], "big") not in self._open_streams:
                size = 0
            elif flags & _PADDED and size:
                size -= 1 + self._received[_HEAD_BYTES]
        elif kind in (HEADERS, CONTINUATION):
            self._block_bytes += _HEAD_BYTES + size
            if self._block_bytes > self._headers_bytes_max:
                raise Flood
            if flags & _END_HEADERS:
                self._block_bytes = 0
        if cost := price(kind, size):
            self._trifles.earn(self._earned)
            self._earned = 0
            if self._trifles.are_too_many(cost, now_s):
                raise Flood
