"""What a word between a front end and an engine costs: on one core, in bursts, and to a process that sleeps.

    python -m pytest bench/bench_queue.py --benchmark-enable

All through the Python faces, so a call or two of Cython and the objects that it makes are part of each figure; the
engine's own way (`aruntime/engine/exchange.pyx`) makes none. Goals: a token record from engine to front end <= 0.05 us,
one bell a step.
"""

import multiprocessing
import os
import select
import time
from array import array
from typing import Any

import pytest

from aruntime.queue.channel import EngineChannel, FrontEndChannel, create_bell, create_channel

BURST = 256


class Line:
    """One channel, both bells, and the two ends of it."""

    def __init__(self) -> None:
        self.file, self.engine_bell, self.front_end_bell = create_channel(1), create_bell(), create_bell()
        self.front_end = FrontEndChannel(self.file, self.engine_bell, 1)
        self.engine = EngineChannel(self.file, self.front_end_bell, 1)


@pytest.mark.benchmark(group="queue, one message")
def test_push_and_pop_of_64_bytes(benchmark: Any) -> None:
    line = Line()

    def turn() -> object:
        line.front_end.try_cancel(1, 2)
        return line.engine.receive()

    assert benchmark.pedantic(turn, rounds=200, iterations=500, warmup_rounds=5) == ("cancel", 1, 2)


@pytest.mark.benchmark(group="queue, one message")
def test_push_of_a_prompt_of_512_tokens(benchmark: Any) -> None:
    line = Line()
    prompt = array("i", range(512))

    def submit() -> bool:
        return line.front_end.try_submit(
            slot=1, generation=2, arrived_s=0.0, deadline_s=1.0, prompt=prompt, max_tokens=8, min_tokens=0, tenant=0,
            priority=1, attempt=1, stop_token_ids=(), request_id=b"r-1", temperature=1.0, top_p=1.0, min_p=0.0,
            presence_penalty=0.0, frequency_penalty=0.0, repetition_penalty=1.0, top_k=0, ignore_eos=False, seed=1,
        )  # fmt: skip

    def drain() -> None:
        while line.engine.receive() is not None:
            pass

    assert benchmark.pedantic(submit, setup=drain, rounds=500, warmup_rounds=5)


@pytest.mark.benchmark(group="queue, burst of 256 output records and one bell")
def test_send_ring_and_take(benchmark: Any) -> None:
    line = Line()
    burst = [(slot, 1, 17, 5, 0, 0, 0.0) for slot in range(BURST)]

    def turn() -> int:
        line.front_end.prepare_sleep()
        line.engine.send(burst)
        line.engine.ring_bell()
        return len(line.front_end.take())

    assert benchmark.pedantic(turn, rounds=500, warmup_rounds=20) == BURST
    assert os.eventfd_read(line.front_end_bell) == 520


@pytest.mark.benchmark(group="queue, burst of 256 output records and one bell")
def test_take(benchmark: Any) -> None:
    line = Line()
    burst = [(slot, 1, 17, 5, 0, 0, 0.0) for slot in range(BURST)]

    def fill() -> None:
        line.engine.send(burst)

    assert len(benchmark.pedantic(line.front_end.take, setup=fill, rounds=500, warmup_rounds=20)) == BURST


def _echo(line: Line) -> None:
    """Answer each message with a record; sleep in between; end at generation 0."""
    while True:
        while (message := line.engine.receive()) is not None:
            if message[2] == 0:
                return
            line.engine.send([(1, 1, 1, 0, 0, 0, 0.0)])
            line.engine.ring_bell()
        if line.engine.prepare_sleep():
            _wait(line.engine_bell)
            line.engine.awake()


def _wait(bell: int) -> None:
    select.select([bell], [], [], 10.0)
    os.eventfd_read(bell)


@pytest.mark.benchmark(group="queue, to a sleeping process and back")
def test_round_trip_when_idle(benchmark: Any) -> None:
    line = Line()
    engine = multiprocessing.get_context("fork").Process(target=_echo, args=(line,))
    engine.start()

    def turn() -> int:
        assert line.front_end.prepare_sleep()
        line.front_end.try_cancel(1, 1)
        _wait(line.front_end_bell)
        return len(line.front_end.take())

    assert benchmark.pedantic(turn, setup=lambda: time.sleep(0.002), rounds=200, warmup_rounds=5) == 1
    line.front_end.try_cancel(1, 0)
    engine.join()
    assert engine.exitcode == 0
