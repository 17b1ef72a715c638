"""What a front end counts of the answers of a version: a rollout compares two versions by it."""

from http_house import House

from aruntime.control.rollout.gates import Observation
from aruntime.control.rollout.observed import read
from aruntime.queue.columns import ANSWER_TOKENS
from aruntime.queue.records import FinishReason


def answers(seen: Observation) -> tuple[int, int, int]:
    return seen.stopped, seen.cut, seen.empty


async def test_a_choice_is_counted_by_how_it_ended_and_how_long_it_is(house: House) -> None:
    client = house.complete(n=2, stream=True)
    first, second = (await house.submitted())[:2], (await house.submitted())[:2]
    house.say(first, "abc", FinishReason.STOP)
    house.say(second, "abcde", FinishReason.LENGTH)
    await client.done()
    seen = read(house.table)
    assert (answers(seen), seen.ok) == ((1, 1, 0), 1)
    counts, total = ANSWER_TOKENS.totals(house.table)
    assert (list(counts)[2:4], total) == ([1, 2], 8)  # at most 4 and 8 tokens


async def test_an_answer_without_any_text_is_empty_however_many_tokens_it_has(house: House) -> None:
    for stream, said, extra in ((True, [], {}), (False, "x", {"stop": "x"}), (True, "  ", {})):
        client = house.complete(stream=stream, **extra)
        at = (await house.submitted())[:2]
        house.say(at, said, FinishReason.STOP)
        await client.done()
    assert answers(read(house.table)) == (3, 0, 2)  # white space is text


async def test_text_that_waited_for_its_end_is_text(house: House) -> None:
    client = house.complete(stop="abcd")
    at = (await house.submitted())[:2]
    house.say(at, "abc", FinishReason.LENGTH)
    await client.done()
    assert answers(read(house.table)) == (0, 1, 0)


async def test_a_stop_string_is_an_end_by_itself_and_counted_once(house: House) -> None:
    client = house.chat(stop="b", stream=True)
    at = (await house.submitted())[:2]
    house.say(at, "abc", FinishReason.LENGTH)
    await client.done()
    assert answers(read(house.table)) == (1, 0, 0)


async def test_what_is_refused_or_not_ended_is_no_answer_and_no_error_of_the_version(house: House) -> None:
    await house.complete(max_tokens=999).done()
    await house.complete(n=99).done()
    late = house.chat({"x-request-timeout-ms": "50"}, stream=True)
    house.say((await house.submitted())[:2], "a")
    await late.done()
    left = house.chat()
    await house.submitted()
    left.leave()
    await left.done()
    seen = read(house.table)
    assert (answers(seen), seen.requests) == ((0, 0, 0), 0)


async def test_an_engine_that_dies_is_an_error_of_the_version(house: House) -> None:
    client = house.chat()
    await house.submitted()
    house.view.withdraw(0)
    await client.done()
    assert (client.status, read(house.table).errors) == (500, 1)
