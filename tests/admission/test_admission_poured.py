"""Tickets that are poured: their outputs are handed over in the loop's turn, while whoever reads them sleeps."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from admission_house import House, rest

from aruntime.admission.ticket import Output, Ticket
from aruntime.base.errors import DeadlineExceeded
from aruntime.queue.records import FinishReason

LENGTH = FinishReason.LENGTH


class _Taker:
    """Takes what is poured; says no at the token `no_at`."""

    def __init__(self, no_at: int = -1) -> None:
        self.tokens: list[int] = []
        self.takes = 0
        self._no_at = no_at

    def take(self, output: Output) -> bool:
        self.takes += 1
        self.tokens += output.token_ids
        return self._no_at not in output.token_ids


@pytest.fixture
async def house() -> AsyncIterator[House]:
    made = House(submit_cells=4096, context_max=4096)
    made.door.open()
    yield made
    made.close()


async def pouring(ticket: Ticket, taker: _Taker) -> "asyncio.Task[None]":
    """Have the ticket poured, by a task that sleeps when this returns."""
    task = asyncio.ensure_future(ticket.pour(taker.take))
    await asyncio.sleep(0)
    return task


async def test_all_that_one_turn_brings_is_one_output_and_the_end_ends_it(house: House) -> None:
    ticket, taker = house.admit(max_tokens=9), _Taker()
    (at,) = house.engine.submitted
    house.engine.say(*at, 1, index=0)
    await asyncio.sleep(0.01)
    task = await pouring(ticket, taker)
    assert taker.tokens == [1]  # what was there before
    house.engine.say(*at, 2, index=1)
    house.engine.say(*at, 3, index=2)
    await asyncio.sleep(0.01)
    assert (taker.tokens, taker.takes, task.done()) == ([1, 2, 3], 2, False)
    house.engine.say(*at, 4, LENGTH, index=3)
    await asyncio.wait_for(task, 5)
    assert taker.tokens == [1, 2, 3, 4]
    assert await rest(ticket) == []


async def test_who_says_no_is_handed_nothing_more_until_it_asks_again(house: House) -> None:
    ticket, taker = house.admit(max_tokens=900), _Taker(no_at=1)
    (at,) = house.engine.submitted
    task = await pouring(ticket, taker)
    house.engine.say(*at, 1, index=0)
    await asyncio.wait_for(task, 5)
    for i in range(400):
        house.engine.say(*at, 2, index=1 + i)
        if i % 200 == 199:
            await asyncio.sleep(0.01)
    house.engine.read()
    assert (taker.tokens, house.engine.told) == ([1], ["pause"])
    task = await pouring(ticket, taker)
    await asyncio.sleep(0.01)
    house.engine.read()
    assert (len(taker.tokens), house.engine.told) == (401, ["pause", "resume"])
    ticket.close()
    await asyncio.wait_for(task, 5)


async def test_an_error_ends_it_and_is_told_to_whoever_iterates(house: House) -> None:
    ticket, taker = house.admit(max_tokens=9), _Taker()
    task = await pouring(ticket, taker)
    ticket.fail(DeadlineExceeded("too late"))
    await asyncio.wait_for(task, 5)
    with pytest.raises(DeadlineExceeded, match="too late"):
        await anext(ticket)


async def test_what_the_taker_raises_is_raised_where_it_is_poured(house: House) -> None:
    def broken(_output: Output) -> bool:
        raise ZeroDivisionError

    ticket = house.admit(max_tokens=9)
    (at,) = house.engine.submitted
    task = asyncio.ensure_future(ticket.pour(broken))
    house.engine.say(*at, 1, index=0)
    with pytest.raises(ZeroDivisionError):
        await asyncio.wait_for(task, 5)


async def test_one_that_is_not_poured_any_more_keeps_what_comes(house: House) -> None:
    ticket, taker = house.admit(max_tokens=9), _Taker()
    (at,) = house.engine.submitted
    task = await pouring(ticket, taker)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    house.engine.say(*at, 1, LENGTH, index=0)
    await asyncio.sleep(0.01)
    assert taker.tokens == []
    assert [output.token_ids for output in await rest(ticket)] == [[1]]
