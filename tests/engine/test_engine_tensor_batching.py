"""When waiting rows run, as a rule of numbers alone."""

import math

from hypothesis import given
from hypothesis import strategies as st

from aruntime.engine.tensor_batching import AT_ONCE_S, Batching

SIZE = st.integers(1, 64)
MOMENT = st.floats(0, 1e6)


@st.composite
def batchings(draw: st.DrawFn) -> Batching:
    batch_max = draw(SIZE)
    preferred = draw(st.lists(st.integers(1, batch_max), max_size=4))
    return Batching(batch_max, tuple(preferred), draw(st.floats(0, 10)))


@given(batchings(), SIZE, MOMENT)
def test_a_preferred_size_and_a_full_batch_run_at_once(batching: Batching, rows: int, oldest_s: float) -> None:
    if rows in batching.preferred or rows >= batching.batch_max:
        assert batching.starts_s(rows, oldest_s) == AT_ONCE_S


@given(batchings(), SIZE, MOMENT)
def test_nobody_waits_for_others_longer_than_the_delay(batching: Batching, rows: int, oldest_s: float) -> None:
    assert batching.starts_s(rows, oldest_s) <= oldest_s + batching.delay_s


@given(batchings(), SIZE, MOMENT, MOMENT, st.floats(0, 10))
def test_nobody_misses_a_deadline_by_waiting_for_others(
    batching: Batching, rows: int, oldest_s: float, deadline_s: float, run_s: float
) -> None:
    assert batching.starts_s(rows, oldest_s, deadline_s, run_s) + run_s <= deadline_s


@given(batchings(), SIZE, MOMENT, st.floats(0, 1e3))
def test_one_row_more_never_makes_a_run_later_but_for_leaving_a_preferred_size(
    batching: Batching, rows: int, oldest_s: float, later_s: float
) -> None:
    if rows not in batching.preferred:
        assert batching.starts_s(rows + 1, oldest_s) <= batching.starts_s(rows, oldest_s + later_s)


def test_between_two_preferred_sizes_a_run_waits_for_the_larger_one() -> None:
    batching = Batching(16, (4, 8), 0.01)
    moments = [batching.starts_s(rows, 5.0) for rows in range(1, 17)]
    assert moments == [5.01] * 3 + [AT_ONCE_S] + [5.01] * 3 + [AT_ONCE_S] * 9


def test_without_a_delay_everything_runs_as_soon_as_it_is_there() -> None:
    assert all(Batching(8).starts_s(rows, 5.0) <= 5.0 for rows in range(1, 9))


@given(batchings(), SIZE)
def test_a_model_that_takes_fewer_rows_lowers_every_size(batching: Batching, rows_max: int) -> None:
    lower = batching.within(rows_max)
    assert lower.batch_max == min(batching.batch_max, rows_max)
    assert all(size <= lower.batch_max for size in lower.preferred)
    assert lower.delay_s == batching.delay_s
    assert math.isinf(lower.starts_s(lower.batch_max, 0.0))
