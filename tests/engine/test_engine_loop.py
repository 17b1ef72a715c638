"""The loop over a real scheduler, exchange, channel and table; only the model is played."""

import math
import os
import struct
import threading
import time
from array import array
from collections.abc import Callable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from aruntime.engine.exchange import Exchange
from aruntime.engine.loop import EngineBroken, Loop
from aruntime.engine.parts import Sampled
from aruntime.queue.channel import EngineChannel, FrontEndChannel, create_bell, create_channel
from aruntime.queue.columns import COLUMNS, ENGINE_ROW, Column
from aruntime.queue.records import FinishReason
from aruntime.queue.table import Table, create_table
from aruntime.scheduler.scheduler import Scheduler, StepPlan

Step = Callable[[StepPlan], tuple[Any, ...]]


class PlayedModel:
    """Says 5 for every row, or does what the test wants. With a step ahead it works as a device does."""

    def __init__(self, steps_ahead: int) -> None:
        self.step: Step = self.fives
        self.steps_ahead = steps_ahead

    def launch(self, plan: StepPlan) -> SimpleNamespace:
        sampled = self.step(plan)
        return SimpleNamespace(fetch=lambda: Sampled(*sampled))

    def fives(self, plan: StepPlan) -> tuple[np.ndarray, ...]:
        """With 5 and 6 as alternatives."""
        likely, scored = (played_top(len(rows), plan.top) for rows in (plan.likely_row, plan.scored_index))
        tokens, logprobs = np.full(plan.samples, 5, np.int32), np.zeros(plan.samples, np.float32)
        return tokens, logprobs, likely, (np.zeros(len(plan.scored_index), np.float32), *scored)


def played_top(rows: int, top: int) -> tuple[np.ndarray, np.ndarray]:
    return np.tile(np.arange(5, 5 + top, dtype=np.int32), (rows, 1)), np.zeros((rows, top), np.float32)


def is_empty(scheduler: Scheduler) -> bool:
    """Whether nothing waits, runs, or has an end that was not delivered yet."""
    stats = scheduler.stats()
    return stats.waiting + stats.running + stats.undelivered == 0


class World:
    """An engine on a thread of its own, and one front end's end of the rings."""

    def __init__(self, steps_ahead: int) -> None:
        self.model = PlayedModel(steps_ahead)
        self.scheduler = Scheduler(
            sequences_max=4, step_tokens_max=32, waiting_max=4, context_max=64, blocks=16, vocab=10, eos_token_ids=[9]
        )
        self._fds = [create_table(64, COLUMNS), create_bell(), create_bell(), create_channel(1, 256, 16)]
        table, self.bell, front_bell, channel = self._fds
        self.table = Table(table)
        self.exchange = Exchange(self.scheduler)
        self.exchange.attach(1, EngineChannel(channel, front_bell, 1))
        self.front = FrontEndChannel(channel, self.bell, 1)
        self.loop = Loop(self.scheduler, self.model, self.exchange, self.table, self.bell, time.monotonic)  # type: ignore[arg-type]
        self.error: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._control, self._wake = os.pipe()
        self._thread.start()

    def _run(self) -> None:
        try:
            self.loop.run(self._control, lambda: None)
        except EngineBroken as error:
            self.error = error

    def submit(
        self,
        slot: int = 0,
        *,
        deadline_s: float = float("inf"),
        max_tokens: int = 3,
        prompt: Sequence[int] = (1, 2, 3),
        **told: Any,
    ) -> None:
        assert self.front.try_submit(
            slot=slot, generation=1, arrived_s=0, deadline_s=deadline_s, prompt=array("i", prompt),
            max_tokens=max_tokens, min_tokens=0, tenant=0, priority=1, attempt=1, stop_token_ids=(), request_id=b"r",
            temperature=0, top_p=1, min_p=0, presence_penalty=0, frequency_penalty=0, repetition_penalty=1, top_k=0,
            ignore_eos=False, seed=0, **told,
        )  # fmt: skip

    def outputs(self, until: Callable[[list[tuple[int, ...]]], bool]) -> list[tuple[int, ...]]:
        """(slot, token, index, finish) of what has come, waiting at most five seconds for `until`."""
        seen: list[tuple[int, ...]] = []
        deadline = time.monotonic() + 5
        while not until(seen):
            assert time.monotonic() < deadline, f"only {seen}"
            seen += [(slot, token, index, finish) for slot, _, token, index, finish, *_ in self.front.take()]
            time.sleep(0.002)
        return seen

    def stop(self) -> None:
        self.loop.stop = True
        os.write(self._wake, b"x")
        self._thread.join(5)
        assert not self._thread.is_alive()
        for fd in [*self._fds, self._control, self._wake]:
            os.close(fd)


@pytest.fixture(params=[0, 1], ids=["step by step", "a step ahead"])
def world(request: pytest.FixtureRequest) -> Iterator[World]:
    made = World(request.param)
    yield made
    made.stop()


def ended(count: int = 1) -> Callable[[list[tuple[int, ...]]], bool]:
    return lambda seen: sum(record[3] != FinishReason.NONE for record in seen) == count


def test_a_request_in_the_ring_becomes_tokens_in_the_ring(world: World) -> None:
    world.submit()
    assert world.outputs(ended()) == [(0, 5, 0, 0), (0, 5, 1, 0), (0, 5, 2, FinishReason.LENGTH)]
    world.scheduler.check_integrity()


def test_a_paused_sequence_is_told_in_the_table(world: World) -> None:
    def slowly(plan: StepPlan) -> tuple[Any, ...]:
        time.sleep(0.005)
        return world.model.fives(plan)

    world.model.step = slowly
    world.submit(max_tokens=40)
    assert world.front.try_pause(0, 1)
    world.outputs(lambda _: world.table.get(ENGINE_ROW, Column.PAUSED) == 1)
    assert world.front.try_resume(0, 1)
    world.outputs(ended())
    world.outputs(lambda _: world.table.get(ENGINE_ROW, Column.PAUSED) == 0)


def test_a_sleeping_engine_is_woken_by_the_bell(world: World) -> None:
    time.sleep(0.3)  # it has gone to sleep
    started = time.monotonic()
    world.submit()
    world.outputs(ended())
    assert time.monotonic() - started < 0.2  # the heartbeat alone would take up to 0.25


def test_more_output_than_the_ring_holds_is_all_delivered(world: World) -> None:
    world.submit(max_tokens=40)
    time.sleep(0.2)  # the ring of 16 is full
    records = world.outputs(ended())
    assert [record[2] for record in records] == list(range(40))


def test_a_ring_too_small_for_a_prompt_s_logprobs_loses_none_and_holds_up_nobody(world: World) -> None:
    """A ring of 16 records; a prompt of 53 records, then three tokens of three each."""
    told = {"top_logprobs": 2, "prompt_logprobs": True}
    world.submit(0, prompt=[1, 2, 3] * 6, **told)
    world.submit(1)
    time.sleep(0.1)  # both have ended, and the ring is full
    seen: list[tuple[int, ...]] = []
    deadline = time.monotonic() + 5
    while sum(record[4] != FinishReason.NONE for record in seen) < 2:
        assert time.monotonic() < deadline
        seen += world.front.take()
    mine = [(record[2], record[3], record[7]) for record in seen if record[0] == 0]
    prompt = [(token, place, kind) for place in range(1, 18) for token, kind in ((5, 1), (6, 1), (place % 3 + 1, 2))]
    assert mine == prompt + [(token, place, kind) for place in range(3) for token, kind in ((5, 1), (6, 1), (5, 0))]


def test_vectors_come_before_the_ends_of_their_sequences_however_small_the_ring(world: World) -> None:
    """A ring with room for one vector of sixteen numbers; another sequence's tokens share the steps."""

    def with_vectors(plan: StepPlan) -> tuple[Any, ...]:
        owners = zip(plan.pool_owners(), plan.pool_divisor.tolist(), strict=True)
        return *world.model.fives(plan), [(owner, bytes([owner[1]]) * 64) for owner, divisor in owners if divisor]

    world.model.step = with_vectors
    for slot in range(1, 4):
        world.submit(slot, max_tokens=1, pooling=slot % 2 + 1)
    world.submit(4)
    time.sleep(0.1)
    found: dict[int, bytes] = {}
    ends: list[int] = []
    tokens: list[int] = []
    deadline = time.monotonic() + 5
    while len(ends) < 4:
        assert time.monotonic() < deadline
        records = world.front.take()
        found |= {slot: result for slot, _, result in world.front.take_results()}
        assert {record[0] for record in records if record[4] and record[0] < 4} <= set(found)
        tokens += [record[2] for record in records if record[2] >= 0]
        ends += [record[0] for record in records if record[4]]
    assert found == {slot: bytes([slot]) * 64 for slot in range(1, 4)}
    assert tokens == [5, 5, 5]


def test_a_cancel_frees_the_blocks(world: World) -> None:
    release = threading.Event()

    def slow(plan: StepPlan) -> tuple[Any, ...]:
        release.wait(5)
        return world.model.fives(plan)

    world.model.step = slow
    world.submit(max_tokens=50)
    time.sleep(0.05)
    world.front.try_cancel(0, 1)
    release.set()
    assert world.outputs(ended())[-1][3] == FinishReason.CANCELLED
    time.sleep(0.05)
    assert world.table.get(ENGINE_ROW, Column.BLOCKS_FREE) == 16


def test_a_deadline_in_the_engine_ends_the_sequence(world: World) -> None:
    world.submit(deadline_s=time.monotonic() - 1)
    assert world.outputs(ended()) == [(0, -1, 0, FinishReason.DEADLINE)]


def test_a_step_that_breaks_ends_its_sequences_and_the_next_request_is_served(world: World) -> None:
    def broken(plan: StepPlan) -> tuple[np.ndarray, np.ndarray]:
        world.model.step = world.model.fives
        raise RuntimeError("no")

    world.model.step = broken
    world.submit(slot=0)
    assert world.outputs(ended())[-1][3] == FinishReason.MODEL_ERROR
    world.submit(slot=1)
    assert world.outputs(ended())[-1][3] == FinishReason.LENGTH


def test_an_engine_whose_model_keeps_breaking_gives_up(world: World) -> None:
    def broken(plan: StepPlan) -> tuple[np.ndarray, np.ndarray]:
        raise RuntimeError("no")

    world.model.step = broken
    for slot in range(100):
        if world.error:
            break
        world.submit(slot)
        time.sleep(0.01)
    assert isinstance(world.error, EngineBroken)


def test_a_token_outside_the_vocabulary_is_a_model_error(world: World) -> None:
    world.model.step = lambda plan: (np.full(plan.samples, 77, np.int32), np.zeros(plan.samples, np.float32))
    world.submit()
    assert world.outputs(ended()) == [(0, -1, 0, FinishReason.MODEL_ERROR)]


def test_a_front_end_that_is_gone_leaves_nothing_behind(world: World) -> None:
    world.submit(max_tokens=60)
    time.sleep(0.02)
    world.exchange.detach(1)
    time.sleep(0.1)
    assert is_empty(world.scheduler)
    world.scheduler.check_integrity()


def test_an_idle_engine_keeps_its_heartbeat(world: World) -> None:
    before = world.table.get(ENGINE_ROW, Column.HEARTBEAT_US)
    time.sleep(0.6)
    assert world.table.get(ENGINE_ROW, Column.HEARTBEAT_US) > before


class PlayedGrammars:
    """Ready, or no good, in the turn after they came."""

    def __init__(self) -> None:
        self.begun: dict[tuple[int, int, int], str] = {}
        self.ended: list[tuple[int, int, int]] = []

    def begin(self, owner: tuple[int, int, int], grammar: str) -> None:
        self.begun[owner] = grammar

    def ready(self) -> list[tuple[tuple[int, int, int], bool]]:
        return [(owner, grammar == "good") for owner, grammar in self.begun.items()]

    def end(self, owner: tuple[int, int, int]) -> None:
        self.ended.append(owner)


@pytest.fixture
def exchange() -> Iterator[tuple[Exchange, Scheduler, FrontEndChannel, PlayedGrammars]]:
    scheduler = Scheduler(
        sequences_max=4, step_tokens_max=32, waiting_max=4, context_max=64, blocks=16, vocab=10, eos_token_ids=[9]
    )
    grammars = PlayedGrammars()
    fds = [create_bell(), create_bell(), create_channel(1, 256, 16)]
    made = Exchange(scheduler, grammars)
    made.attach(1, EngineChannel(fds[2], fds[1], 1))
    yield made, scheduler, FrontEndChannel(fds[2], fds[0], 1), grammars
    for fd in fds:
        os.close(fd)


def say(front: FrontEndChannel, slot: int, grammar: bytes) -> None:
    assert front.try_submit(
        slot=slot, generation=1, arrived_s=0, deadline_s=math.inf, prompt=array("i", [1, 2, 3]), max_tokens=3,
        min_tokens=0, tenant=0, priority=1, attempt=1, stop_token_ids=(), request_id=b"r", temperature=0, top_p=1,
        min_p=0, presence_penalty=0, frequency_penalty=0, repetition_penalty=1, top_k=0, ignore_eos=False, seed=0,
        bias_pairs=1, bad_words=1, bad_word_tokens=2, grammar_bytes=len(grammar),
        payload=struct.pack("<if3i", 4, 1.0, 2, 1, 2) + grammar,
    )  # fmt: skip


def test_the_grammar_of_a_request_reaches_who_makes_it_ready_and_is_told_of_its_end(
    exchange: tuple[Exchange, Scheduler, FrontEndChannel, PlayedGrammars],
) -> None:
    engine, scheduler, front, grammars = exchange
    for slot, grammar in enumerate((b"good", "schlecht ü".encode(), b"\xff")):
        say(front, slot, grammar)
    engine.receive()
    assert grammars.begun == {(1, 0, 1): "good", (1, 1, 1): "schlecht ü"}
    plan = scheduler.plan(0.0)
    assert plan.guided_owners() == [(1, 0, 1)]
    engine.receive()
    assert sorted(grammars.ended) == [(1, 1, 1), (1, 2, 1)]
    engine.deliver()
    assert [(slot, finish) for slot, _, _, _, finish, *_ in front.take()] == [
        (2, FinishReason.GRAMMAR),
        (1, FinishReason.GRAMMAR),
    ]


def test_an_engine_that_knows_no_grammars_ends_such_a_request(world: World) -> None:
    say(world.front, 0, b"good")
    assert world.outputs(ended()) == [(0, -1, 0, FinishReason.GRAMMAR)]
