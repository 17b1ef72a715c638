"""A request to a tensor model at the door: rows count as tokens, inputs travel, the result comes with the end."""

from array import array

import pytest
from admission_house import House, rest

from aruntime.base.errors import InvalidRequest, ModelError
from aruntime.queue.columns import Column
from aruntime.queue.records import FinishReason

INPUTS = bytes(range(200))


def rows(count: int) -> "list[array[int]]":
    return [array("i", [0]) * count]


async def test_the_result_comes_with_the_end(house: House) -> None:
    ticket = house.door.admit(house.route, house.ask(prompts=rows(3), max_tokens=1, payload=INPUTS))
    message = house.engine.channel.receive()
    assert message is not None
    kind, slot, generation, prompt, head = message
    assert (kind, prompt, head["payload"]) == ("submit", [0, 0, 0], INPUTS)  # type: ignore[index]
    assert house.engine.channel.try_result(slot, generation, b"the answer")  # type: ignore[arg-type]
    house.engine.say(slot, generation, 0, FinishReason.LENGTH)  # type: ignore[arg-type]
    outputs = await rest(ticket)
    assert [(output.finish, output.result) for output in outputs] == [(FinishReason.LENGTH, b"the answer")]


async def test_an_answer_whose_result_was_lost_is_a_model_error(house: House) -> None:
    ticket = house.admit(prompts=rows(1), max_tokens=1, payload=INPUTS)
    house.engine.say(*house.engine.submitted[0], 0, FinishReason.LENGTH)
    with pytest.raises(ModelError):
        await rest(ticket)


async def test_a_result_for_nobody_is_counted_and_dropped(house: House) -> None:
    ticket = house.admit(prompts=rows(1), max_tokens=1, payload=INPUTS)
    slot, generation = house.engine.submitted[0]
    for wrong in [(slot, generation + 1), (2**31, 0)]:
        assert house.engine.channel.try_result(*wrong, b"")
        house.engine.channel.ring_bell()
        house.door._pump()
    assert house.table.sum(Column.STALE) == 2
    ticket.close()


async def test_rows_are_bounded_as_tokens_are(house: House) -> None:
    with pytest.raises(InvalidRequest, match="100 rows in one request; there is room for 99") as refusal:
        house.admit(prompts=rows(100), max_tokens=1, payload=INPUTS, field="inputs")
    assert refusal.value.param == "inputs"
    house.admit(prompts=rows(99), max_tokens=1, payload=INPUTS).close()


async def test_inputs_larger_than_the_ring_are_refused_with_the_numbers(house: House) -> None:
    with pytest.raises(InvalidRequest, match="16001 bytes of inputs in one request; there is room for 16000"):
        house.admit(prompts=rows(1), max_tokens=1, payload=bytes(16001), field="inputs")
    house.admit(prompts=rows(1), max_tokens=1, payload=bytes(16000)).close()
