"""Counts the frames of one connection that cost its server something and bring nothing: what floods are made of.

A reset of a stream, a ping, settings, priorities, data of a few bytes. A client has a burst of them and then a pace;
each frame of an answer earns one more, so who is talked to may say little things.
"""

_SMALL_BYTES = 16


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

    def are_too_many(self, now_s: float) -> bool:
        """Count one more. Whether the client floods."""
        self._left = min(self._burst, self._left + (now_s - self._last_s) * self._per_s) - 1
        self._last_s = now_s
        return self._left < 0


def is_trifle(kind: int, size: int) -> bool:
    """Whether a frame of this type (RFC 9113, 6), of `size` bytes of payload, counts."""
    return kind in (2, 3, 4, 6) or (kind == 0 and size < _SMALL_BYTES)
