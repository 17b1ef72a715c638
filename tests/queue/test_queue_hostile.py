"""Whatever stands in the channel's file, each end answers within its bounds and counts what it refused.

`tests/queue/cpp/hostile.cpp` does the same under AddressSanitizer, and while the file is being read.
"""

import mmap
import os
import struct
from array import array

import pytest
from hypothesis import given
from hypothesis import strategies as st
from queue_line import Line

from aruntime.queue.channel import EngineChannel

# The layout of csrc/queue/channel.hpp, with 64 cells, 16 records and 16 cells of results.
SUBMIT_TAIL, SUBMIT_HEAD, OUTPUT_TAIL, RESULT_TAIL, CELLS, CELL_BYTES = 64, 128, 192, 320, 576, 64
RECORDS = CELLS + 64 * CELL_BYTES
RESULTS = RECORDS + 16 * 32
END = RESULTS + 16 * CELL_BYTES


def write(line: Line, at: int, data: bytes) -> None:
    with mmap.mmap(line.file, END) as file:
        file[at : at + len(data)] = data


def empty_both_rings(line: Line) -> None:
    for _ in range(64 + 2):
        message = line.engine.receive()
        if message is None:
            break
        if message[0] == "submit":
            assert 1 <= len(message[3]) <= 59 * 16  # type: ignore[arg-type]
            assert len(message[4]["stop_token_ids"]) <= 16  # type: ignore[index]
            assert len(message[4]["payload"]) <= 58 * CELL_BYTES  # type: ignore[index]
    assert line.engine.receive() is None
    for _ in range(16 + 2):
        records = line.front_end.take()
        assert len(records) <= 16
        assert all(0 <= record[4] <= 8 and 0 <= record[7] <= 2 for record in records)
    for _ in range(16 + 2):
        assert sum(len(result) for _, _, result in line.front_end.take_results()) < 16 * CELL_BYTES


EDIT = st.tuples(st.integers(SUBMIT_TAIL, END - 1), st.binary(min_size=1, max_size=16))


@given(st.lists(st.lists(EDIT, max_size=4), min_size=1, max_size=6))
def test_random_bytes_anywhere_are_survived(attacks: list[list[tuple[int, bytes]]]) -> None:
    line = Line()
    assert os.fstat(line.file).st_size == END
    for edits in attacks:
        line.submit()
        line.front_end.try_cancel(1, 2)
        line.engine.send([(0, 0, 1, 0, 0, 0, 0.0)] * 3)
        line.engine.try_result(0, 0, bytes(100))
        for at, data in edits:
            write(line, at, data[: END - at])
        empty_both_rings(line)
        line.engine.prepare_sleep()
        line.front_end.prepare_sleep()
        assert 0 <= line.front_end.submit_cells_free <= 64
    line.close()


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (CELLS, 3),  # kind
        (CELLS, 0),
        (CELLS + 4, 7),  # cells
        (CELLS + 4, 2**32 - 1),
        (CELLS + 32, 0),  # prompt_tokens
        (CELLS + 32, 17),
        (CELLS + 32, 2**32 - 1),
        (CELLS + 56, 17),  # stop_tokens
        (CELLS + 60, 1),  # payload_bytes
        (CELLS + 60, 2**32 - 1),
        (SUBMIT_TAIL, 3),  # less than the head
        (SUBMIT_TAIL, 65),  # more than the ring
        (SUBMIT_TAIL + 4, 1),  # 2**32 and more
    ],
)
def test_a_malformed_submit_is_counted_dropped_with_all_that_was_published_and_the_next_one_is_heard(
    line: Line, at: int, value: int
) -> None:
    line.submit(slot=1)
    line.submit(slot=2)
    write(line, at, struct.pack("<I", value))
    assert line.engine.receive() == ("refused",)
    assert line.engine.refused == 1
    assert line.engine.receive() is None
    if at >= CELLS:
        assert line.submit(slot=3)
        assert line.engine.receive()[:2] == ("submit", 3)  # type: ignore[index]
    assert line.engine.refused == 1


def test_a_malformed_cancel_is_refused(line: Line) -> None:
    line.front_end.try_cancel(1, 2)
    write(line, CELLS + 4, struct.pack("<I", 2))
    assert line.engine.receive() == ("refused",)


@pytest.mark.parametrize(("at", "value"), [(16, b"\x0a"), (17, b"\x03")])
def test_an_output_of_an_unknown_end_or_kind_is_refused_and_those_before_it_are_kept(
    line: Line, at: int, value: bytes
) -> None:
    line.engine.send([(slot, 0, 1, 0, 0, 0, 0.0) for slot in range(3)])
    write(line, RECORDS + 32 + at, value)
    assert [record[0] for record in line.front_end.take()] == [0]
    assert line.front_end.refused == 1
    assert line.front_end.take() == []
    line.engine.send([(7, 0, 1, 0, 0, 0, 0.0)])
    assert [record[0] for record in line.front_end.take()] == [7]


def test_an_output_tail_that_lies_is_refused(line: Line) -> None:
    write(line, OUTPUT_TAIL, struct.pack("<Q", 17))
    assert line.front_end.take() == []
    assert line.front_end.refused == 1


@pytest.mark.parametrize(
    ("at", "value"),
    [
        (RESULTS, 1),  # cells
        (RESULTS, 2**32 - 1),
        (RESULTS + 12, 0),  # bytes
        (RESULTS + 12, 65),
        (RESULTS + 12, 2**32 - 1),
        (RESULT_TAIL, 1),  # less than the message
        (RESULT_TAIL, 17),  # more than the ring
        (RESULT_TAIL + 4, 1),
    ],
)
def test_a_malformed_result_is_counted_and_dropped_and_the_next_one_is_taken(line: Line, at: int, value: int) -> None:
    line.engine.try_result(1, 1, b"one")
    line.engine.try_result(2, 1, b"two")
    write(line, at, struct.pack("<I", value))
    assert line.front_end.take_results() == []
    assert line.front_end.refused == 1
    assert line.front_end.take_results() == []
    if at >= RESULTS:
        line.engine.try_result(3, 1, b"three")
        assert line.front_end.take_results() == [(3, 1, b"three")]
    assert line.front_end.refused == 1


def test_a_head_that_lies_makes_the_ring_full(line: Line) -> None:
    line.submit(prompt=array("i", bytes(4 * 16 * 59)))
    write(line, SUBMIT_HEAD, struct.pack("<Q", 2**63))
    assert not line.submit()
    assert line.front_end.submit_cells_free == 0


@pytest.mark.parametrize(
    ("at", "data", "complaint"),
    [
        (0, b"X", "not a channel of this layout"),
        (7, b"1", "not a channel of this layout"),
        (8, b"\x08", "another epoch"),
        (16, struct.pack("<I", 128), "sizes do not add up"),
        (16, struct.pack("<I", 0), "sizes do not add up"),
        (16, struct.pack("<II", 2**31, 2**31), "sizes do not add up"),
        (20, struct.pack("<I", 17), "sizes do not add up"),
        (24, struct.pack("<I", 32), "sizes do not add up"),
    ],
)
def test_a_header_that_lies_is_not_opened(line: Line, at: int, data: bytes, complaint: str) -> None:
    write(line, at, data)
    with pytest.raises(ValueError, match=complaint):
        EngineChannel(line.file, line.front_end_bell, 7)
