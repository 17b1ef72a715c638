"""What a front end says is what the engine hears, and back; a bell rings when it must and not otherwise."""

import math
import os
import subprocess
import sys
from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from queue_line import WORDS, Line

from aruntime.queue.channel import EngineChannel, FrontEndChannel, create_bell, create_channel

U32 = st.integers(0, 2**32 - 1)
I32 = st.integers(-(2**31), 2**31 - 1)
F32 = st.floats(width=32, allow_nan=False)
U16 = st.integers(0, 2**16 - 1)
OUTPUT = st.tuples(U32, U32, I32, U32, st.integers(0, 8), U32, F32, st.integers(0, 2))


@given(
    prompt=st.lists(I32, min_size=1, max_size=900),
    stop_token_ids=st.lists(I32, max_size=16).map(tuple),
    request_id=st.binary(max_size=128).filter(lambda name: not name.endswith(b"\0")),
    payload=st.binary(max_size=200),
    numbers=st.fixed_dictionaries(
        {name: U32 for name in ("slot", "generation", "max_tokens", "min_tokens", "tenant", "attempt")}
        | {name: F32 for name in ("temperature", "top_p", "min_p")}
        | {name: F32 for name in ("presence_penalty", "frequency_penalty", "repetition_penalty")}
        | {name: st.floats(allow_nan=False) for name in ("arrived_s", "deadline_s")}
        | {"top_k": I32, "seed": st.integers(0, 2**64 - 1), "ignore_eos": st.booleans(), "priority": st.integers(0, 2)}
        | {name: U16 for name in ("bias_pairs", "bad_words", "bad_word_tokens")}
        | {"grammar_bytes": U32, "top_logprobs": st.integers(0, 255), "prompt_logprobs": st.booleans()}
        | {"pooling": st.integers(0, 2)}
    ),
)
def test_every_number_of_a_submit_arrives_untouched(
    prompt: list[int], stop_token_ids: tuple[int, ...], request_id: bytes, payload: bytes, numbers: dict[str, object]
) -> None:
    line = Line(submit_cells=128)
    said = {**numbers, "stop_token_ids": stop_token_ids, "request_id": request_id, "payload": payload}
    for repeat in (prompt, prompt[:1], prompt):  # places that are used again keep nothing of the last message
        assert line.submit(**said, prompt=array("i", repeat))
        message = line.engine.receive()
        assert message is not None
        kind, slot, generation, heard, head = message
        assert (kind, slot, generation, heard) == ("submit", said["slot"], said["generation"], repeat)
        assert {**head, "slot": slot, "generation": generation} == {**said, "stop_token_ids": list(stop_token_ids)}  # type: ignore[dict-item]
    assert line.engine.receive() is None
    line.close()


@given(st.lists(st.lists(OUTPUT, max_size=16), max_size=8))
def test_every_output_arrives_untouched_and_in_order(bursts: list[list[tuple[int, ...]]]) -> None:
    line = Line()
    for burst in bursts:
        assert line.engine.send(burst) == len(burst)  # type: ignore[arg-type]
        assert line.front_end.take(5) + line.front_end.take() + line.front_end.take() == burst
    line.close()


@given(st.lists(st.lists(st.tuples(U32, U32, st.binary(max_size=200)), max_size=3), max_size=8))
def test_every_result_arrives_untouched_and_in_order(bursts: list[list[tuple[int, int, bytes]]]) -> None:
    line = Line()
    for burst in bursts:
        sent = [result for result in burst if line.engine.try_result(*result)]
        assert line.front_end.take_results() == sent
        assert sent == burst[: len(sent)]
    line.close()


def test_a_result_is_there_before_the_end_that_it_belongs_to(line: Line) -> None:
    assert line.engine.try_result(1, 2, b"first")
    assert line.engine.send([(1, 2, 0, 0, 2, 0, 0.0)]) == 1
    assert line.engine.try_result(3, 4, b"second")
    assert [record[0] for record in line.front_end.take()] == [1]
    assert line.front_end.take_results() == [(1, 2, b"first"), (3, 4, b"second")]


def test_a_full_result_ring_is_an_answer_and_a_result_for_no_ring_is_a_fault(line: Line) -> None:
    assert line.engine.result_bytes_max == 15 * 64
    assert line.engine.try_result(1, 1, bytes(15 * 64))
    assert not line.engine.try_result(2, 1, b"")
    with pytest.raises(ValueError, match="961 bytes of result do not go into a ring for 960"):
        line.engine.try_result(2, 1, bytes(15 * 64 + 1))
    assert line.front_end.take_results() == [(1, 1, bytes(15 * 64))]
    assert line.engine.try_result(2, 1, b"")


def test_cancels_and_submits_keep_their_order(line: Line) -> None:
    assert line.front_end.try_cancel(2**32 - 1, 7)
    assert line.submit(slot=1)
    assert line.front_end.try_cancel(1, 9)
    assert line.engine.receive() == ("cancel", 2**32 - 1, 7)
    assert line.engine.receive()[:3] == ("submit", 1, 9)  # type: ignore[index]
    assert line.engine.receive() == ("cancel", 1, 9)
    assert line.engine.receive() is None


def test_a_prompt_may_be_any_buffer_of_int32(line: Line) -> None:
    assert line.submit(prompt=np.arange(4, dtype=np.int32))
    assert line.engine.receive()[3] == [0, 1, 2, 3]  # type: ignore[index]
    with pytest.raises(ValueError, match="Buffer dtype mismatch"):
        line.submit(prompt=np.arange(4, dtype=np.int64))


def test_a_full_submit_ring_is_an_answer_and_changes_nothing(line: Line) -> None:
    assert line.submit(prompt=array("i", range(16 * 50)))  # 55 of 64 cells
    assert line.front_end.submit_cells_free == 9
    assert not line.submit(prompt=array("i", range(16 * 5)))
    assert line.front_end.submit_cells_free == 9
    assert line.submit(prompt=array("i", range(16 * 4)))
    assert not line.front_end.try_cancel(0, 0)
    assert [line.engine.receive()[3] for _ in range(2)] == [list(range(800)), list(range(64))]  # type: ignore[index]
    assert line.engine.receive() is None
    assert line.front_end.submit_cells_free == 64


def test_a_full_output_ring_takes_what_fits(line: Line) -> None:
    records = [(slot, 0, 1, 0, 0, 0, 0.0, 0) for slot in range(20)]
    assert line.engine.send(records) == 16
    assert line.engine.send(records) == 0
    assert line.front_end.take(4) == records[:4]
    assert line.engine.send(records[16:]) == 4
    taken = line.front_end.take() + line.front_end.take()
    assert taken == records[4:]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"prompt": array("i")}, "0 prompt tokens"),
        (
            {"prompt": array("i", bytes(4 * 16 * 60))},
            "960 prompt tokens and 0 bytes of payload do not go into a ring of 64 cells",
        ),
        ({"payload": bytes(64 * 59)}, "3 prompt tokens and 3776 bytes of payload do not go"),
        ({"stop_token_ids": range(17)}, "got 17 and 3"),
        ({"request_id": b"x" * 129}, "got 0 and 129"),
    ],
)
def test_what_can_never_be_said_is_named(line: Line, change: dict[str, object], complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        line.submit(**change)
    assert line.engine.receive() is None


def test_numbers_out_of_their_type_are_refused_not_cut(line: Line) -> None:
    for change in ({"slot": 2**32}, {"generation": -1}, {"top_k": 2**31}, {"stop_token_ids": (2**31,)}):
        with pytest.raises(OverflowError):
            line.submit(**change)
    assert line.engine.receive() is None


def test_nobody_rings_while_the_consumer_is_awake(line: Line) -> None:
    assert line.submit()
    assert line.engine.send([(0, 0, 1, 0, 0, 0, 0.0)]) == 1
    line.engine.ring_bell()
    assert line.rings(line.engine_bell) == line.rings(line.front_end_bell) == 0
    line.engine.receive()
    assert line.engine.prepare_sleep()
    line.engine.awake()
    assert line.submit()
    assert line.rings(line.engine_bell) == 0


def test_a_burst_rings_a_sleeping_consumer_once(line: Line) -> None:
    assert line.engine.prepare_sleep()
    assert line.front_end.prepare_sleep()
    for _ in range(5):
        line.submit()
        line.engine.send([(0, 0, 1, 0, 0, 0, 0.0)])
        line.engine.ring_bell()
    assert line.rings(line.engine_bell) == line.rings(line.front_end_bell) == 1


def test_nobody_sleeps_over_a_message_that_is_there(line: Line) -> None:
    line.submit()
    line.engine.send([(0, 0, 1, 0, 0, 0, 0.0)])
    assert not line.engine.prepare_sleep()
    assert not line.front_end.prepare_sleep()
    line.submit()
    assert line.rings(line.engine_bell) == 0  # and no bell was asked for


def test_a_file_of_another_epoch_is_refused(line: Line) -> None:
    for end in (FrontEndChannel, EngineChannel):
        with pytest.raises(ValueError, match="another epoch"):
            end(line.file, line.engine_bell, 8)


def test_what_is_not_a_channel_is_refused_by_name(line: Line) -> None:
    plain = os.memfd_create("plain")
    os.ftruncate(plain, 4096)
    for fd, complaint in ((plain, "not a sealed memory file"), (line.engine_bell, "not a sealed"), (-1, "descriptor")):
        with pytest.raises(ValueError, match=complaint):
            EngineChannel(fd, line.front_end_bell, 7)
    with pytest.raises(ValueError, match="the bell is not an open descriptor"):
        EngineChannel(line.file, -1, 7)
    os.close(plain)


@pytest.mark.parametrize("sizes", [(0, 16, 2), (16, 0, 2), (1, 16, 2), (48, 16, 2), (16, 17, 2), (16, 16, 1)])
def test_a_ring_that_is_no_power_of_two_is_refused(sizes: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match=f"got {sizes[0]}, {sizes[1]} and {sizes[2]}"):
        create_channel(1, *sizes)


def test_nobody_can_shrink_or_grow_the_file_or_inherit_it(line: Line) -> None:
    for size in (0, os.fstat(line.file).st_size * 2):
        with pytest.raises(PermissionError):
            os.ftruncate(line.file, size)
    assert not os.get_inheritable(line.file)
    assert not os.get_inheritable(line.engine_bell)


def test_ends_outlive_the_descriptors_that_they_were_made_of() -> None:
    file, bell = create_channel(1), create_bell()
    front_end, engine = FrontEndChannel(file, bell, 1), EngineChannel(file, bell, 1)
    kept = os.dup(bell)
    os.close(file)
    os.close(bell)
    assert engine.prepare_sleep()
    assert front_end.try_cancel(1, 2)
    assert os.eventfd_read(kept) == 1
    assert engine.receive() == ("cancel", 1, 2)
    os.close(kept)


def test_a_closed_channel_says_so(line: Line) -> None:
    line.front_end.close()
    line.front_end.close()
    for call in (line.front_end.take, line.front_end.prepare_sleep, line.front_end.awake, line.submit):
        with pytest.raises(ValueError, match="the channel is closed"):
            call()


def test_many_channels_opened_and_refused_leave_no_descriptor() -> None:
    before = len(os.listdir("/proc/self/fd"))
    for epoch in range(50):
        line = Line(epoch=epoch)
        with pytest.raises(ValueError, match="epoch"):
            FrontEndChannel(line.file, line.engine_bell, epoch + 1)
        line.close()
        del line
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_process_that_forgets_to_close_still_exits_clean() -> None:
    forgetful = (
        "from aruntime.queue.channel import *; from aruntime.queue.table import *\n"
        "file, bell = create_channel(1), create_bell()\n"
        "kept = FrontEndChannel(file, bell, 1), EngineChannel(file, bell, 1), Table(create_table(2, 2))\n"
    )
    ran = subprocess.run([sys.executable, "-W", "error", "-X", "dev", "-c", forgetful], capture_output=True, text=True)
    assert (ran.returncode, ran.stderr) == (0, "")


def test_infinity_is_no_deadline(line: Line) -> None:
    assert WORDS["deadline_s"] == math.inf
    line.submit()
    assert line.engine.receive()[4]["deadline_s"] == math.inf  # type: ignore[index]
