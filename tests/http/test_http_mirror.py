"""While a rollout shadows, requests are copied to its candidate; no client notices, whatever the candidate does."""

import asyncio
import os
from collections.abc import AsyncIterator

import pytest
from http_house import House, demo

from aruntime.admission.limits import RouteLimits
from aruntime.admission.route import Route
from aruntime.control.rollout.observed import read
from aruntime.control.view import ServedVersion
from aruntime.http import mirror
from aruntime.queue.channel import EngineChannel, FrontEndChannel, create_bell, create_channel
from aruntime.queue.columns import COLUMNS, TABLE_ROWS, Column
from aruntime.queue.records import FinishReason, Priority
from aruntime.queue.table import Table, create_table
from aruntime.wire.control import Split, VersionEntry


class Candidate:
    """Version 4 of `demo`, which gets a copy of every request and the answer of none; the test plays its engine."""

    def __init__(self, house: House) -> None:
        self._fds = [create_channel(2, 4096, 1024), create_bell(), create_bell(), create_table(TABLE_ROWS, COLUMNS)]
        channel, engine_bell, bell, table = self._fds
        self.table = Table(table)
        self.engine = EngineChannel(channel, bell, 2)
        limits = RouteLimits(sequences_max=64, waiting_max=64, context_max=200, vocab=256)
        route = Route(1, 1, FrontEndChannel(channel, engine_bell, 2), self.table, limits)
        split = Split(version=4, share=0.0, mirror=1.0, salt=1)
        versions = [VersionEntry(version=number, state="serving", created_s=5) for number in (3, 4)]
        house.view.model_is(demo(split=split).model_copy(update={"versions": versions}))
        house.view.serve(ServedVersion("demo", 4, 5, house.tokenizer, route))
        self._pump = house.view.door._pump

    async def submitted(self) -> tuple[int, int, dict[str, object]]:
        for _ in range(1000):
            if (message := self.engine.receive()) is not None and message[0] == "submit":
                return message[1], message[2], {**message[4], "prompt": message[3]}  # type: ignore[dict-item]
            await asyncio.sleep(0.002)
        raise AssertionError("nothing was copied")

    def end(self, slot: int, generation: int, finish: FinishReason) -> None:
        """Say the end of a sequence, and have the front end hear it."""
        self.engine.send([(slot, generation, -1, 0, finish, 0, 0.0)])
        self._pump()

    async def counted(self, requests: int) -> None:
        async with asyncio.timeout(5):
            while read(self.table).requests < requests:  # noqa: ASYNC110 - it looks at shared memory
                await asyncio.sleep(0.005)

    def close(self) -> None:
        for fd in self._fds:
            os.close(fd)


@pytest.fixture
async def candidate(house: House) -> AsyncIterator[Candidate]:
    made = Candidate(house)
    yield made
    made.close()


async def test_a_copy_is_the_same_request_of_the_lowest_class_and_is_counted_for_the_candidate(
    house: House, candidate: Candidate
) -> None:
    client = house.complete({"x-request-priority": "interactive"}, prompt="hi!", max_tokens=7)
    slot, generation, asked = await house.submitted()
    copied_slot, copied_generation, copied = await candidate.submitted()
    assert (asked["prompt"], asked["max_tokens"]) == (copied["prompt"], copied["max_tokens"])
    assert (asked["priority"], copied["priority"]) == (Priority.INTERACTIVE, Priority.BATCH)
    candidate.end(copied_slot, copied_generation, FinishReason.STOP)
    await candidate.counted(1)
    house.say((slot, generation), "yes", FinishReason.STOP)
    await client.done()
    assert client.json["choices"][0]["text"] == "yes"
    assert client.headers["x-model-version"] == "demo@3"
    assert read(candidate.table).ok == read(house.table).ok == 1


async def test_a_copy_costs_its_tenant_nothing(house: House, candidate: Candidate) -> None:
    client = house.complete()
    at = (await house.submitted())[:2]
    await candidate.submitted()
    assert house.view.door.ledger.held(0) == 1
    house.say(at, "x", FinishReason.STOP)
    await client.done()
    assert house.view.door.ledger.held(0) == 0
    assert candidate.table.sum(Column.IN_FLIGHT) == 1


async def test_a_candidate_that_fails_is_an_error_of_its_own(house: House, candidate: Candidate) -> None:
    client = house.complete()
    at = (await house.submitted())[:2]
    slot, generation, _ = await candidate.submitted()
    candidate.end(slot, generation, FinishReason.MODEL_ERROR)
    await candidate.counted(1)
    house.say(at, "x", FinishReason.STOP)
    await client.done()
    assert client.status == 200
    assert (read(candidate.table).errors, read(house.table).errors) == (1, 0)


async def test_a_slow_candidate_holds_no_more_than_a_few_copies(
    house: House, candidate: Candidate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror, "MIRRORED_MAX", 3)
    for _ in range(5):
        client = house.complete()
        house.say((await house.submitted())[:2], "x", FinishReason.STOP)
        await client.done()
        assert client.status == 200
    for _ in range(3):
        await candidate.submitted()
    assert candidate.table.sum(Column.IN_FLIGHT) == 3
