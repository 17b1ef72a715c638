"""The door over a real channel and table; the test plays the engine's end of the rings."""

import asyncio
import time
from array import array

import pytest
from admission_house import FRONT_END, House, rest

from aruntime.admission.ask import Ask, Sampling
from aruntime.base.errors import DeadlineExceeded, Draining, InvalidRequest, ModelError, Overloaded
from aruntime.queue.columns import Column
from aruntime.queue.records import FinishReason, submit_cells


async def test_a_ticket_gives_every_token_and_then_the_end(house: House) -> None:
    ticket = house.admit()
    (slot,) = house.engine.submitted
    house.engine.say(*slot, 11)
    house.engine.say(*slot, 12, FinishReason.LENGTH, index=1)
    outputs = await rest(ticket)
    assert [token for output in outputs for token in output.token_ids] == [11, 12]
    assert outputs[-1].finish is FinishReason.LENGTH


async def test_a_token_wakes_a_ticket_that_already_waits(house: House) -> None:
    ticket = house.admit()
    waiting = asyncio.ensure_future(anext(ticket))
    await asyncio.sleep(0.01)
    house.engine.say(*house.engine.submitted[0], 5)
    assert (await asyncio.wait_for(waiting, 1)).token_ids == [5]


async def test_each_choice_is_a_sequence_and_they_may_interleave(house: House) -> None:
    ticket = house.admit(n=2)
    first, second = house.engine.submitted
    house.engine.say(*second, 9, FinishReason.STOP)
    house.engine.say(*first, 8, FinishReason.STOP)
    assert {output.choice: output.token_ids for output in await rest(ticket)} == {0: [8], 1: [9]}


async def test_a_full_house_is_refused_at_once_and_has_room_again_when_a_sequence_ends(house: House) -> None:
    for _ in range(4):
        house.admit()
    with pytest.raises(Overloaded) as refusal:
        house.admit()
    assert refusal.value.retry_after_s is not None
    assert refusal.value.retry_after_s >= 1
    house.engine.say(*house.engine.submitted[0], -1, FinishReason.CANCELLED)
    await asyncio.sleep(0.05)
    house.admit()


async def test_bounds_that_change_count_from_the_next_request_on(house: House) -> None:
    tickets = [house.admit() for _ in range(4)]
    house.route.set_bounds(waiting_max=4, waiting_tokens_max=1000, ttft_s=2.0)
    tickets += [house.admit() for _ in range(2)]
    house.route.set_bounds(waiting_max=1, waiting_tokens_max=1000, ttft_s=2.0)
    with pytest.raises(Overloaded):
        house.admit()
    assert len(set(house.engine.submitted)) == house.route.in_flight_here == 6
    house.route.set_bounds(waiting_max=9, waiting_tokens_max=19, ttft_s=2.0)
    with pytest.raises(Overloaded, match="prompt tokens are queued"):
        house.admit()
    for slot in house.engine.submitted:
        house.engine.say(*slot, 1, FinishReason.LENGTH)
    assert [len(await rest(ticket)) for ticket in tickets] == [1] * 6


async def test_sequences_of_other_front_ends_count(house: House) -> None:
    house.table.set(FRONT_END + 1, Column.IN_FLIGHT, 4)
    with pytest.raises(Overloaded):
        house.admit()


async def test_more_choices_than_room_submits_none(house: House) -> None:
    house.admit()
    with pytest.raises(Overloaded):
        house.admit(n=4)
    assert len(house.engine.submitted) == 1
    assert house.table.sum(Column.IN_FLIGHT) == 1


async def test_what_could_never_be_taken_is_the_request_s_fault_and_not_overload(house: House) -> None:
    with pytest.raises(InvalidRequest, match="5 sequences"):
        house.admit(n=5)
    with pytest.raises(InvalidRequest, match="4800 prompt tokens"):
        house.admit(n=3, prompts=[array("i", range(1600))])  # 3 * 105 cells, of 256
    assert house.engine.submitted == []


async def test_a_request_takes_the_cells_that_are_counted_for_it(house: House) -> None:
    before = house.route._channel.submit_cells_free
    house.door.admit(house.route, Ask("r", [array("i", range(33))], 8, time.monotonic()))
    assert before - house.route._channel.submit_cells_free == submit_cells(33) == 8


async def test_a_submit_ring_without_room_is_overload_and_takes_back_what_was_sent() -> None:
    house = House(sequences_max=100, submit_cells=16)
    house.door.open()
    prompt = array("i", range(40))  # 8 cells, of 16
    house.door.admit(house.route, Ask("first", [prompt], 8, time.monotonic()))
    with pytest.raises(Overloaded):
        house.door.admit(house.route, Ask("second", [prompt] * 2, 8, time.monotonic()))
    house.engine.read()
    await asyncio.sleep(0.05)  # the cancel had to wait for room too
    house.engine.read()
    _first, second = house.engine.submitted
    assert house.engine.cancelled == [second]
    for slot in house.engine.submitted:
        house.engine.say(*slot, -1, FinishReason.CANCELLED)
    await asyncio.sleep(0.05)
    assert house.table.sum(Column.IN_FLIGHT) == 0
    house.door.close()


async def test_closing_a_ticket_cancels_its_sequences(house: House) -> None:
    async with house.admit(n=2):
        pass
    house.engine.read()
    assert house.engine.cancelled == house.engine.submitted


async def test_a_cancelled_choice_is_silent_while_the_other_goes_on(house: House) -> None:
    ticket = house.admit(n=2)
    first, second = house.engine.submitted
    ticket.cancel_choice(0)
    house.engine.say(*first, 4)
    house.engine.say(*second, 5, FinishReason.STOP)
    assert [(output.choice, output.token_ids) for output in await rest(ticket)] == [(1, [5])]


async def test_a_late_record_cannot_name_the_next_request_in_the_slot(house: House) -> None:
    house.admit().close()
    (old,) = house.engine.submitted
    house.engine.say(*old, -1, FinishReason.CANCELLED)
    await asyncio.sleep(0.05)
    ticket = house.admit()
    new = house.engine.submitted[-1]
    assert new[0] == old[0]
    house.engine.say(*old, 13)
    house.engine.say(*new, 14, FinishReason.STOP)
    assert [output.token_ids for output in await rest(ticket)] == [[14]]
    assert house.table.get(FRONT_END, Column.STALE) == 1


@pytest.mark.parametrize(
    ("finish", "error"),
    [
        (FinishReason.DEADLINE, DeadlineExceeded),
        (FinishReason.MODEL_ERROR, ModelError),
        (FinishReason.OVERLOADED, Overloaded),
        (FinishReason.DRAINING, Draining),
    ],
)
async def test_a_bad_end_is_an_error_after_the_tokens_before_it(
    house: House, finish: FinishReason, error: type[Exception]
) -> None:
    ticket = house.admit()
    house.engine.say(*house.engine.submitted[0], 6)
    house.engine.say(*house.engine.submitted[0], -1, finish, index=1)
    assert (await anext(ticket)).token_ids == [6]
    with pytest.raises(error):
        await anext(ticket)


async def test_a_deadline_passes_even_when_the_engine_is_silent(house: House) -> None:
    ticket = house.admit(deadline_s=time.monotonic() + 0.05)
    with pytest.raises(DeadlineExceeded):
        await asyncio.wait_for(anext(ticket), 1)
    house.engine.read()
    assert house.engine.cancelled == house.engine.submitted


async def test_a_deadline_in_the_past_is_refused_at_the_door(house: House) -> None:
    with pytest.raises(DeadlineExceeded):
        house.admit(deadline_s=time.monotonic() - 1)
    assert house.engine.submitted == []


async def test_a_lost_replica_ends_its_requests_with_an_error(house: House) -> None:
    ticket = house.admit()
    house.door.detach(7, ModelError("the engine died"))
    with pytest.raises(ModelError, match="the engine died"):
        await anext(ticket)


async def test_a_draining_door_refuses_new_work_and_finishes_the_old(house: House) -> None:
    ticket = house.admit()
    house.door.draining = True
    with pytest.raises(Draining):
        house.admit()
    house.engine.say(*house.engine.submitted[0], 3, FinishReason.STOP)
    assert [output.token_ids for output in await rest(ticket)] == [[3]]


async def test_cancels_that_find_the_ring_full_are_sent_later() -> None:
    house = House(sequences_max=100, submit_cells=16)
    house.door.open()
    tickets = [house.door.admit(house.route, Ask("r", [array("i", [1])], 8, time.monotonic())) for _ in range(2)]
    while house.route._channel.submit_cells_free >= 1:
        house.route._channel.try_cancel(99, 99)
    for ticket in tickets:
        ticket.close()
    house.engine.read()
    await asyncio.sleep(0.1)
    house.engine.read()
    assert {slot for slot in house.engine.cancelled if slot != (99, 99)} == set(house.engine.submitted)
    house.door.close()


async def test_each_choice_of_a_prompt_has_the_next_seed(house: House) -> None:
    house.admit(n=3, sampling=Sampling(seed=2**64 - 2))
    assert house.engine.seeds == [2**64 - 2, 2**64 - 1, 0]


async def test_requests_without_a_seed_get_seeds_of_their_own(house: House) -> None:
    house.admit()
    house.admit()
    assert len(set(house.engine.seeds)) == 2
