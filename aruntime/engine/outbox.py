"""Results of one front end on their way into its result ring: first the result, then the record of its end."""

from collections import deque

from aruntime.base import log
from aruntime.queue.channel import EngineChannel

# What an engine holds of one front end: results that it has not read, and inputs of tensor models. Beyond it, what it
# submits stays in its ring.
HELD_BYTES_MAX = 64 << 20


class Outbox:
    """What the ring of `channel` has no room for yet, in order. `bytes` is how much that is."""

    def __init__(self, channel: EngineChannel) -> None:
        self._channel = channel
        self._waiting: deque[tuple[int, int, bytes]] = deque()  # slot, generation, result
        self.bytes = 0

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def add(self, slot: int, generation: int, result: bytes) -> bool:
        """Let the front end have a result before the end. False: it is larger than the ring."""
        if len(result) > self._channel.result_bytes_max:
            log.warning("engine.result_too_large", got=len(result), bytes_max=self._channel.result_bytes_max)
            return False
        self._waiting.append((slot, generation, result))
        self.bytes += len(result)
        return True

    def flush(self) -> bool:
        """Write as many as there is room for; no bell is rung. Whether any was written."""
        wrote = False
        while self._waiting and self._channel.try_result(*self._waiting[0]):
            self.bytes -= len(self._waiting.popleft()[2])
            wrote = True
        return wrote
