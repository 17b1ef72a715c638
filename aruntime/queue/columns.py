"""The columns of the shared tables: a replica's, and the ledger.

A replica's table is what its engine and the front ends in front of it tell each other. Row 0 is the engine's. Row f is
front end f's; readers sum the rows of the front ends. A dead front end's row is zeroed by the supervisor.

The ledger holds the budgets of tenants over all models. Row 0 holds the buckets, which every front end spends from; row
f counts what front end f has in flight, and the requests that ended before anybody knew their model.
"""

from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass
from enum import IntEnum
from itertools import accumulate
from typing import Protocol

ENGINE_ROW = 0
FRONT_ENDS_MAX = 62
PROBER_ROW = FRONT_ENDS_MAX + 1  # the front end that asks the golden questions
DEPARTED_ROW = FRONT_ENDS_MAX + 2  # what front ends that are gone have counted
TABLE_ROWS = FRONT_ENDS_MAX + 3
TENANTS_MAX = 256


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
    BLOCKS_CACHED = 11  # of the free ones: they hold a prefix that may be used again
    BLOCKS_RESERVED = 12  # guaranteed to tenants, whether they use them or not
    CACHED_TOKENS = 13  # prompt tokens that the prefix cache gave
    OLDEST_US = 14  # arrival of the sequence that has waited longest; 0 while nobody waits
    STEP_US = 15  # how long the next step takes, as the pace has it
    PREFILL_TOKENS_PER_S = 16  # what the engine prefills among the sequences that decode now
    TAKE_UP_US = 17  # between two sequences taken up while every place is taken; 0 while there are places
    WAITING_WEIGHT = 18  # thousandths: the weights of the tenants that have something to prefill
    DRAIN_US = 19  # until all that waits and runs has ended, if nothing more came
    PAUSED = 20  # sequences whose client reads too slowly
    TOKENS_LEFT = 21  # that all that waits, runs or is paused may still generate, at most
    # Written by each front end.
    IN_FLIGHT = 22  # sequences submitted whose end has not come back
    ENDED = 23  # sequences whose end has come back
    STALE = 24  # output records of a request that no longer has its slot
    QUEUED = 25  # of those in flight: no token has come back yet
    QUEUED_TOKENS = 26  # and the tokens of their prompts
    # Answers, by what they are like: a rollout compares two versions by them.
    ANSWERS_STOP = 27  # choices that ended by themselves
    ANSWERS_LENGTH = 28  # choices that were cut by their limit
    ANSWERS_EMPTY = 29  # choices without any text
    # Below: results by code, then the histograms, as the front ends saw them.
    RESULTS = 30


# How a request ended, as a front end counts it: an answer, a client that left or does not read, or an error's code.
RESULT_CODES = (
    "ok",
    "client_closed",
    "client_stalled",
    "context_length_exceeded",
    "deadline_exceeded",
    "draining",
    "invalid_api_key",
    "invalid_request_error",
    "method_not_allowed",
    "model_error",
    "model_not_found",
    "model_not_ready",
    "not_found",
    "overloaded",
    "permission_denied",
    "rate_limit_exceeded",
    "request_timeout",
    "request_too_large",
    "unsupported_media_type",
)


class Cells(Protocol):
    """The table that a histogram lies in."""

    def add(self, row: int, column: int, delta: int) -> None: ...
    def sum(self, column: int) -> int: ...


@dataclass(frozen=True, slots=True)
class Histogram:
    """Counts of durations (seconds), or of sizes, by upper bound, and their sum, in columns from `first` on."""

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


# All bounds of vLLM's metrics of the same names, so that dashboards carry over; more between them, since a rollout
# compares quantiles, and below, for small models.
_TTFT_S = (
    0.001, 0.0025, 0.005, 0.0075, 0.01, 0.015, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3,
    0.4, 0.5, 0.6, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 7.5, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 80.0,
)  # fmt: skip
_ITL_S = (
    0.001, 0.0015, 0.002, 0.0025, 0.003, 0.004, 0.005, 0.006, 0.0075, 0.01, 0.0125, 0.015, 0.02, 0.025, 0.03, 0.04,
    0.05, 0.06, 0.075, 0.1, 0.125, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.5,
)  # fmt: skip
_E2E_S = (0.05, 0.1, 0.3, 0.5, 0.8, 1.0, 1.5, 2.0, 2.5, 5.0, 10.0, 15.0, 20.0, 30.0, 40.0, 60.0, 120.0, 240.0, 480.0)

TTFT = Histogram(Column.RESULTS + len(RESULT_CODES), _TTFT_S)
ITL = Histogram(TTFT.first + TTFT.columns, _ITL_S)
E2E = Histogram(ITL.first + ITL.columns, _E2E_S)
# Tokens of an answer's choice; the sum is in millionths, as of the durations.
ANSWER_TOKENS = Histogram(E2E.first + E2E.columns, tuple(float(1 << power) for power in range(16)))


class TenantColumn(IntEnum):
    """What a replica's table holds for every tenant: `tenant_column` says where."""

    # Written by each front end.
    IN_FLIGHT = 0  # sequences submitted whose end has not come back
    QUEUED = 1  # of these: no token has come back yet; a column for each Priority
    QUEUED_TOKENS = 4  # and the tokens of their prompts; likewise
    # Written by the engine.
    WAITING = 7
    RUNNING = 8
    BLOCKS = 9
    SERVED = 10  # tokens computed for it since the start
    LEAD = 11  # tokens that it may have prefilled now before anybody else


TENANT_COLUMNS = TenantColumn.LEAD + 1


def tenant_column(tenant: int, column: TenantColumn, priority: int = 0) -> int:
    """The column of a replica's table that holds `column` of the tenant with this index, of what has classes one's."""
    return _TENANTS + tenant * TENANT_COLUMNS + column + priority


_TENANTS = ANSWER_TOKENS.first + ANSWER_TOKENS.columns
COLUMNS = _TENANTS + TENANTS_MAX * TENANT_COLUMNS


# What is in flight of a front end, which goes with it. All else that it counts stays true when it is gone.
PASSING = frozenset(
    [Column.IN_FLIGHT, Column.QUEUED, Column.QUEUED_TOKENS]
    + [
        tenant_column(tenant, TenantColumn.IN_FLIGHT) + place
        for tenant in range(TENANTS_MAX)
        for place in range(TenantColumn.WAITING)
    ]
)


class LedgerColumn(IntEnum):
    """What the ledger holds for every tenant: `ledger_column` says where."""

    SEQUENCES = 0  # in flight, over all models; a row for each front end
    REQUESTS_EMPTY_NS = 1  # row 0: when the bucket of requests was empty (csrc/admission/bucket.hpp)
    TOKENS_EMPTY_NS = 2  # row 0: the bucket of tokens


def ledger_column(tenant: int, column: LedgerColumn) -> int:
    """The column of the ledger that holds `column` of the tenant with this index."""
    return tenant * len(LedgerColumn) + column


BUCKETS_ROW = 0  # and what front ends that are gone have counted
LEDGER_ROWS = FRONT_ENDS_MAX + 1
REFUSALS = TENANTS_MAX * len(LedgerColumn)  # by code, in the order of RESULT_CODES
LEDGER_COLUMNS = REFUSALS + len(RESULT_CODES)
