"""What one connection may hold, and how long it may keep others waiting; and how many there may be."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class H2Limits:
    """Bytes, seconds and counts; docs/limits.md says where each comes from."""

    connections_max: int = 8_192  # of one listener in one process
    pending_bytes_max: int = 64 << 10  # of one answer, that its client does not take: then its writer waits
    received_bytes_max: int = 1 << 20  # of all bodies that nobody has read yet: the connection's own window
    stall_s_max: float = 30.0  # that a client may leave an answer, or a frame or headers that it has begun
    greeting_s_max: float = 10.0  # from the connection to the client's first words
    last_rest_s: float = 1.0  # of a connection without a request, once its process is to be replaced
    linger_s_max: float = 5.0  # that a client of HTTP/1.1 may speak on after an answer amid its request
    turn_s_max: float = 0.002  # of reading frames, before others get their turn
    trifles_max: int = 2_000  # frames that do no work, at once
    trifles_per_s: float = 100.0  # and lasting
