"""What the front ends have counted of one version, read from its engines' tables for the gates of a rollout.

An engine that starts again has a new table; what the last one counted goes on counting, so readings only ever grow.
The prober's row does not count: nobody has asked those questions.
"""

from collections.abc import Iterable

from aruntime.control.gates import Observation
from aruntime.queue.columns import ANSWER_TOKENS, ITL, PROBER_ROW, RESULT_CODES, TTFT, Column, Histogram
from aruntime.queue.table import Table


class Observed:
    """One version's readings."""

    def __init__(self) -> None:
        self._gone = Observation()
        self._last: dict[Table, Observation] = {}

    def read(self, tables: Iterable[Table]) -> Observation:
        """All that was counted since the first reading of each table, which are those of the engines that live."""
        now = {table: observe(table) for table in tables}
        for table, last in self._last.items():
            if table not in now:
                self._gone += last
        self._last = now
        return sum(now.values(), self._gone)


def observe(table: Table) -> Observation:
    """What one table says."""

    def count(column: int) -> int:
        return max(0, table.sum(column) - table.get(PROBER_ROW, column))

    def counts(histogram: Histogram) -> tuple[int, ...]:
        return tuple(count(histogram.first + bucket) for bucket in range(len(histogram.bounds_s) + 1))

    return Observation(
        ok=count(Column.RESULTS + RESULT_CODES.index("ok")),
        errors=count(Column.RESULTS + RESULT_CODES.index("model_error")),
        stopped=count(Column.ANSWERS_STOP),
        cut=count(Column.ANSWERS_LENGTH),
        empty=count(Column.ANSWERS_EMPTY),
        ttft=counts(TTFT),
        itl=counts(ITL),
        tokens=counts(ANSWER_TOKENS),
    )
