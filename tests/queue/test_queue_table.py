"""A table counts, in every process that holds it."""

import os
import subprocess
import sys
from collections.abc import Iterator

import pytest

from aruntime.queue.channel import create_channel
from aruntime.queue.table import Table, create_table


@pytest.fixture
def file() -> Iterator[int]:
    fd = create_table(3, 10)
    yield fd
    os.close(fd)


def test_a_new_table_is_all_zeros(file: int) -> None:
    table = Table(file)
    assert (table.rows, table.columns) == (3, 10)
    assert [table.row(row) for row in range(3)] == [[0] * 10] * 3


def test_every_place_is_its_own(file: int) -> None:
    table = Table(file)
    for row in range(3):
        for column in range(10):
            table.set(row, column, 100 * row + column - 50)
    assert [table.row(row) for row in range(3)] == [[100 * r + c - 50 for c in range(10)] for r in range(3)]


def test_readers_sum_what_writers_add(file: int) -> None:
    writer, reader = Table(file), Table(file)
    for row in range(3):
        writer.add(row, 4, 10**15 + row)
        writer.add(row, 4, -1)
    assert reader.sum(4) == 3 * 10**15
    assert reader.get(2, 4) == 10**15 + 1
    assert reader.sum(3) == reader.sum(5) == 0


def test_a_zeroed_row_leaves_the_others(file: int) -> None:
    table = Table(file)
    for row in range(3):
        table.set(row, 9, 5)
    table.zero(1)
    assert [table.get(row, 9) for row in range(3)] == [5, 0, 5]


def test_another_process_counts_in_the_same_table(file: int) -> None:
    code = f"from aruntime.queue.table import Table\nt = Table({file})\nfor _ in range(1000): t.add(1, 1, 2)"
    subprocess.run([sys.executable, "-c", code], check=True, pass_fds=[file])
    assert Table(file).get(1, 1) == 2000


def test_places_outside_are_refused(file: int) -> None:
    table = Table(file)
    for row, column in ((3, 0), (0, 10), (2**32 - 1, 0)):
        with pytest.raises(IndexError, match=f"row {row}, column {column}"):
            table.get(row, column)
    with pytest.raises(IndexError):
        table.sum(10)
    with pytest.raises(OverflowError):
        table.get(-1, 0)


@pytest.mark.parametrize("shape", [(0, 1), (1, 0), (4097, 1), (1, 4097)])
def test_a_table_has_1_to_4096_rows_and_columns(shape: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match=f"got {shape[0]} and {shape[1]}"):
        create_table(*shape)


def test_what_is_not_a_table_is_refused(file: int) -> None:
    channel, lying = create_channel(1, 16, 16), create_table(4, 4)
    for fd in (channel, -1):
        with pytest.raises(ValueError, match=r"not a table|descriptor"):
            Table(fd)
    os.pwrite(lying, (5).to_bytes(4, "little"), 8)  # more rows than the file has
    with pytest.raises(ValueError, match="not a table"):
        Table(lying)
    os.close(channel)
    os.close(lying)


def test_a_closed_table_says_so(file: int) -> None:
    table = Table(file)
    table.close()
    table.close()
    for call in (lambda: table.rows, lambda: table.get(0, 0), lambda: table.sum(0), lambda: table.zero(0)):
        with pytest.raises(ValueError, match="the table is closed"):
            call()
