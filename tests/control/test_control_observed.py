"""What the tables have counted of a version: of all front ends, over all lives of its engines, never backwards."""

import os
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aruntime.control.rollout.gates import Observation
from aruntime.control.rollout.observed import Tally, read
from aruntime.queue.columns import (
    ANSWER_TOKENS,
    COLUMNS,
    DEPARTED_ROW,
    ENGINE_ROW,
    FRONT_ENDS_MAX,
    ITL,
    PROBER_ROW,
    RESULT_CODES,
    TABLE_ROWS,
    TTFT,
    Column,
)
from aruntime.queue.table import Table, create_table


@pytest.fixture
def table() -> Iterator[Table]:
    fd = create_table(TABLE_ROWS, COLUMNS)
    yield Table(fd)
    os.close(fd)


@pytest.mark.parametrize("row", [1, FRONT_ENDS_MAX, DEPARTED_ROW])
def test_every_front_end_counts_and_those_that_are_gone(table: Table, row: int) -> None:
    for column, times in ((Column.ANSWERS_STOP, 3), (Column.ANSWERS_LENGTH, 2), (Column.ANSWERS_EMPTY, 1)):
        table.add(row, column, times)
    table.add(row, Column.RESULTS + RESULT_CODES.index("ok"), 4)
    table.add(row, Column.RESULTS + RESULT_CODES.index("model_error"), 5)
    TTFT.observe(table, row, 0.045)
    ITL.observe(table, row, 99.0)
    ANSWER_TOKENS.observe(table, row, 1)
    seen = read(table)
    assert (seen.ok, seen.errors, seen.stopped, seen.cut, seen.empty) == (4, 5, 3, 2, 1)
    assert seen.ttft[TTFT.bounds_s.index(0.05)] == sum(seen.ttft) == 1
    assert seen.itl[-1] == sum(seen.itl) == 1
    assert seen.tokens[0] == sum(seen.tokens) == 1


@pytest.mark.parametrize("row", [ENGINE_ROW, PROBER_ROW])
def test_neither_the_engine_nor_the_prober_counts(table: Table, row: int) -> None:
    for column in range(Column.RESULTS, ANSWER_TOKENS.first + ANSWER_TOKENS.columns):
        table.add(row, column, 1)
    assert read(table) == Observation()


def test_only_what_the_version_did_counts(table: Table) -> None:
    for i, code in enumerate(RESULT_CODES):
        table.add(1, Column.RESULTS + i, 1 if code in ("ok", "model_error") else 100)
    assert read(table) == Observation(ok=1, errors=1)


lives = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50), st.booleans()), max_size=40)


@given(lives)
def test_engines_that_die_lose_nothing_and_count_nothing_twice(history: list[tuple[int, int, bool]]) -> None:
    tally, epochs, counted, all_counted, last = Tally(), [0] * 4, [0] * 4, 0, 0
    for replica, more, dies in history:
        counted[replica] += more
        all_counted += more
        tally.see((replica, epochs[replica]), Observation(ok=counted[replica]))
        if dies:
            tally.end((replica, epochs[replica]))
            epochs[replica], counted[replica] = epochs[replica] + 1, 0
        assert tally.total.ok == all_counted >= last
        last = tally.total.ok


def test_golden_questions_are_counted_beside_the_tables() -> None:
    tally = Tally()
    tally.see("life", Observation(ok=1))
    tally.ask(3, 2)
    tally.end("unknown")
    assert tally.total == Observation(ok=1, golden_asked=3, golden_passed=2)
