"""What the shared tables have counted of a model version: the observations that a rollout's gates compare.

Every life of an engine has a table of its own, which begins at zero. So the readings are kept by life, and what a
version counted is their sum: it only grows, whatever dies. A life's last reading is taken when its front ends have let
go of it, for they count the requests that died with it.
"""

from collections.abc import Hashable
from dataclasses import dataclass, field

from aruntime.control.rollout.gates import Counts, Observation
from aruntime.queue.columns import ANSWER_TOKENS, ENGINE_ROW, ITL, PROBER_ROW, RESULT_CODES, TTFT, Column, Histogram
from aruntime.queue.table import Table

_OK, _ERRORS = (Column.RESULTS + RESULT_CODES.index(code) for code in ("ok", "model_error"))


def read(table: Table) -> Observation:
    """What all front ends have counted in this table, those that are gone included; not what the prober asks."""
    rows = [row for row in range(table.rows) if row not in (ENGINE_ROW, PROBER_ROW)]

    def total(column: int) -> int:
        return sum(table.get(row, column) for row in rows)

    def buckets(histogram: Histogram) -> Counts:
        return tuple(total(histogram.first + i) for i in range(len(histogram.bounds_s) + 1))

    return Observation(
        ok=total(_OK),
        errors=total(_ERRORS),
        stopped=total(Column.ANSWERS_STOP),
        cut=total(Column.ANSWERS_LENGTH),
        empty=total(Column.ANSWERS_EMPTY),
        ttft=buckets(TTFT),
        itl=buckets(ITL),
        tokens=buckets(ANSWER_TOKENS),
    )


@dataclass(slots=True)
class Tally:
    """What was counted of one version since this server started, over all replicas and all their lives.

    A life is whatever names one table: a replica's number and which of its engines it is. There are as many as tables
    are open.
    """

    _past: Observation = field(default_factory=Observation)
    _lives: dict[Hashable, Observation] = field(default_factory=dict)

    def see(self, life: Hashable, reading: Observation) -> None:
        """The latest reading of a life's table, in place of the last one."""
        self._lives[life] = reading

    def end(self, life: Hashable) -> None:
        """This life's table is closed; what was read last stays counted."""
        self._past += self._lives.pop(life, Observation())

    def ask(self, asked: int, passed: int) -> None:
        """So many golden questions were asked under load, and so many answered right."""
        self._past += Observation(golden_asked=asked, golden_passed=passed)

    @property
    def total(self) -> Observation:
        """All of it."""
        return sum(self._lives.values(), self._past)
