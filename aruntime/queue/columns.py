"""The columns of a replica's shared table: what its engine and the front ends in front of it tell each other.

Row 0 is the engine's. Row f is front end f's; readers sum the rows of the front ends. A dead front end's row is zeroed
by the supervisor.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate
from typing import Protocol

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
    # Below: results by code, then the histograms, as the front ends saw them.
    RESULTS = 14


# How a request ended, as a front end counts it: an answer, a client that left, or an error's code.
RESULT_CODES = (
    "ok",
    "client_closed",
    "context_length_exceeded",
    "deadline_exceeded",
    "draining",
    "invalid_request_error",
    "model_error",
    "overloaded",
)


class Cells(Protocol):
    """The table that a histogram lies in."""

    def add(self, row: int, column: int, delta: int) -> None: ...
    def sum(self, column: int) -> int: ...


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of durations by upper bound (seconds), and their sum, in columns from `first` on."""

    first: int
    bounds_s: tuple[float, ...]

    @property
    def columns(self) -> int:
        """How many columns it takes: a bucket for each bound, one for what is above, the sum in microseconds."""
        return len(self.bounds_s) + 2

    def observe(self, table: Cells, row: int, seconds: float) -> None:
        """Count one duration."""
        table.add(row, self.first + bisect_left(self.bounds_s, seconds), 1)
        table.add(row, self.first + self.columns - 1, int(seconds * 1e6))

    def totals(self, table: Cells) -> tuple[Iterator[int], float]:
        """Over all rows: how many were at most each bound (the last: all), and their sum in seconds."""
        counts = (table.sum(self.first + i) for i in range(self.columns - 1))
        return accumulate(counts), table.sum(self.first + self.columns - 1) / 1e6


# Bounds as in vLLM's metrics of the same names, so that dashboards carry over; finer below for small models.
_TTFT_S = (0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0)
_ITL_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5)
_E2E_S = (0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 120.0, 240.0, 480.0)

TTFT = Histogram(Column.RESULTS + len(RESULT_CODES), _TTFT_S)
ITL = Histogram(TTFT.first + TTFT.columns, _ITL_S)
E2E = Histogram(ITL.first + ITL.columns, _E2E_S)
COLUMNS = E2E.first + E2E.columns
