"""What a front end takes from a client, at most. docs/limits.md says where each number comes from."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """Bytes and seconds. A body is refused by its stated length before it is read, and by what has come while it is."""

    headers_max: int = 100
    header_bytes_max: int = 16 << 10  # names, values and the target
    body_bytes_max: int = 4 << 20
    body_s_max: float = 30.0
    timeout_s_max: float = 86_400.0
    # Longer texts are tokenized in threads, so that the event loop goes on.
    inline_characters_max: int = 16 << 10
    encode_threads: int = 2
    encode_waiting_max: int = 32
