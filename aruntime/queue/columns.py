"""The columns of a replica's shared table: what its engine and the front ends in front of it tell each other.

Row 0 is the engine's. Row f is front end f's; readers sum the rows of the front ends. A dead front end's row is zeroed
by the supervisor.
"""

from enum import IntEnum

ENGINE_ROW = 0
FRONT_ENDS_MAX = 63


class Column(IntEnum):
    """int64 each; times in microseconds of the host's monotonic clock."""

    # Written by the engine.
    HEARTBEAT_US = 0  # when its loop last turned
    STEPS = 1
    WAITING = 2  # sequences that no step has taken up yet
    RUNNING = 3
    WAITING_TOKENS = 4  # prompt tokens of the waiting sequences
    BLOCKS_FREE = 5
    BLOCKS = 6
    PREEMPTIONS = 7
    PROMPT_TOKENS = 8
    OUTPUT_TOKENS = 9
    REFUSED = 10  # malformed messages in shared memory
    # Written by each front end.
    IN_FLIGHT = 11  # sequences submitted whose end has not come back
    ENDED = 12  # sequences whose end has come back
    STALE = 13  # output records of a request that no longer has its slot
