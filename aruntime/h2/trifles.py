"""Counts the frames of one connection that cost its server something and may bring nothing: what floods are made of.

A client has a burst of them and then a pace; each frame of an answer earns one more. So a request pays for itself once
it is answered, one that is refused, malformed or reset does not, and who is talked to may say little things.
"""

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)

_SMALL_BYTES = 16
_SETTING_BYTES = 6
_WINDOW_UPDATES_PER_FRAME = 10  # of answers; one for the stream and one for the connection are usual


class Trifles:
    """A token bucket: `burst` at once, `per_s` lasting."""

    def __init__(self, burst: int, per_s: float, now_s: float) -> None:
        self._left = float(burst)
        self._burst = float(burst)
        self._per_s = per_s
        self._last_s = now_s

    def earn(self, frames: int) -> None:
        """The client was sent so many frames of answers."""
        self._left = min(self._burst, self._left + frames)

    def are_too_many(self, price: float, now_s: float) -> bool:
        """Count one more of this price. Whether the client floods."""
        self._left = min(self._burst, self._left + (now_s - self._last_s) * self._per_s) - price
        self._last_s = now_s
        return self._left < 0


def price(kind: int, size: int) -> float:
    """What a frame of this type (RFC 9113, 6) costs. `size` is its payload without padding; of data, what is of use."""
    if kind == DATA:
        return size < _SMALL_BYTES
    if kind == WINDOW_UPDATE:
        return 1 / _WINDOW_UPDATES_PER_FRAME
    if kind == SETTINGS:
        return max(1, size // _SETTING_BYTES)
    return 1
