"""What one HTTP/2 connection may hold, and how long it may keep others waiting."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class H2Limits:
    """Bytes, seconds and counts; docs/limits.md says where each comes from."""

    pending_bytes_max: int = 64 << 10  # of one answer, that its client does not take: then its writer waits
    received_bytes_max: int = 1 << 20  # of all bodies that nobody has read yet: the connection's own window
    stall_s_max: float = 30.0  # that an answer may wait for a window, or for the network
    greeting_s_max: float = 10.0  # from the connection to the client's first bytes
    last_rest_s: float = 1.0  # of a connection without a request, once its process is to be replaced
    frames_a_turn: int = 64  # that are read before others get their turn
    trifles_max: int = 1_000  # frames that do no work, at once
    trifles_per_s: float = 100.0  # and lasting
