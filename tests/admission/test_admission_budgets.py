"""Budgets: charged at the door, settled once, whatever way a request ends."""

import asyncio
import time

import pytest
from admission_house import FRONT_END, House, rest

from aruntime.admission.ledger import REQUESTS, TOKENS
from aruntime.admission.tenants import Tenant
from aruntime.base.errors import (
    DeadlineExceeded,
    Draining,
    InvalidRequest,
    ModelError,
    Overloaded,
    RateLimitExceeded,
    ServingError,
)
from aruntime.queue.records import FinishReason

METERED = Tenant(1, "one", requests_per_minute=100, tokens_per_minute=1000, sequences_max=3)
ASKED = {"tenant": METERED, "max_tokens": 40}  # and a prompt of 3


def spent(house: House, budget: int) -> int:
    """What was gone of a budget, in its own units, when the first request was made: it has been filling since."""
    of = METERED.tokens_per_minute if budget == TOKENS else METERED.requests_per_minute
    assert of is not None
    return round((1 - house.door.ledger.level(1, budget, house.asked_s)) * of)


async def test_the_prompt_and_all_that_may_come_are_charged_at_the_door(house: House) -> None:
    house.admit(**ASKED, n=2)
    assert (spent(house, TOKENS), spent(house, REQUESTS)) == (83, 1)
    assert house.door.ledger.held(1) == 2


async def test_an_answer_costs_what_it_took(house: House) -> None:
    ticket = house.admit(**ASKED)
    for i in range(10):
        house.engine.say(*house.engine.submitted[0], 1, index=i)
    house.engine.say(*house.engine.submitted[0], -1, FinishReason.STOP, index=10)
    await rest(ticket)
    ticket.close()
    assert (spent(house, TOKENS), spent(house, REQUESTS), house.door.ledger.held(1)) == (13, 1, 0)


async def test_what_was_not_read_yet_counts_as_used(house: House) -> None:
    ticket = house.admit(**ASKED)
    for i in range(5):
        house.engine.say(*house.engine.submitted[0], 1, index=i)
    await asyncio.sleep(0.02)
    ticket.close()
    ticket.close()
    assert spent(house, TOKENS) == 8


async def test_a_choice_that_found_its_stop_string_gives_back_the_rest(house: House) -> None:
    ticket = house.admit(**ASKED, n=2)
    for at in house.engine.submitted:
        house.engine.say(*at, 1)
    await anext(ticket)
    await anext(ticket)
    ticket.cancel_choice(0)
    assert spent(house, TOKENS) == 83  # the other goes on
    ticket.cancel_choice(1)
    assert (spent(house, TOKENS), house.door.ledger.held(1)) == (5, 0)


async def test_a_client_that_leaves_before_the_first_token_has_asked_all_the_same(house: House) -> None:
    house.admit(**ASKED).close()
    assert (spent(house, TOKENS), spent(house, REQUESTS)) == (3, 1)


async def test_a_deadline_gives_back_what_was_not_generated(house: House) -> None:
    ticket = house.admit(**ASKED, deadline_s=time.monotonic() + 0.02)
    with pytest.raises(DeadlineExceeded):
        await rest(ticket)
    assert (spent(house, TOKENS), house.door.ledger.held(1)) == (3, 0)


@pytest.mark.parametrize("finish", [FinishReason.OVERLOADED, FinishReason.DRAINING, FinishReason.MODEL_ERROR])
async def test_what_the_server_failed_to_do_costs_nothing(house: House, finish: FinishReason) -> None:
    ticket = house.admit(**ASKED)
    house.engine.say(*house.engine.submitted[0], 1)
    house.engine.say(*house.engine.submitted[0], -1, finish, index=1)
    with pytest.raises(ServingError):
        await rest(ticket)
    assert (spent(house, TOKENS), spent(house, REQUESTS), house.door.ledger.held(1)) == (0, 0, 0)


async def test_a_lost_replica_costs_nothing(house: House) -> None:
    house.admit(**ASKED)
    house.door.detach(7, ModelError("the engine died"))
    assert (spent(house, TOKENS), spent(house, REQUESTS), house.door.ledger.held(1)) == (0, 0, 0)


async def test_a_refusal_spends_nothing(house: House) -> None:
    house.queue(METERED, 4, 12)
    with pytest.raises(Overloaded):
        house.admit(**ASKED)
    house.door.draining = True
    with pytest.raises(Draining):
        house.admit(**ASKED)
    assert (spent(house, TOKENS), spent(house, REQUESTS), house.door.ledger.held(1)) == (0, 0, 0)


async def test_a_full_submit_ring_spends_nothing() -> None:
    house = House(sequences_max=9, submit_cells=16)
    house.door.open()
    for _ in range(2):
        house.door.admit(house.route, house.ask(**ASKED))  # 6 cells each
    with pytest.raises(Overloaded, match="submit ring"):
        house.door.admit(house.route, house.ask(**ASKED))
    assert (spent(house, TOKENS), house.door.ledger.held(1)) == (43 * 2, 2)
    house.close()


async def test_a_front_end_without_a_free_slot_spends_nothing(house: House) -> None:
    for _ in range(4):
        house.admit()
    house.table.zero(FRONT_END)  # whatever the table says
    with pytest.raises(Overloaded, match="too many requests"):
        house.admit(**ASKED)
    assert (spent(house, TOKENS), spent(house, REQUESTS), house.door.ledger.held(1)) == (0, 0, 0)


async def test_over_budget_is_refused_until_the_bucket_has_filled(house: House) -> None:
    house.admit(**{**ASKED, "max_tokens": 90}).close()
    tenant = Tenant(1, "one", tokens_per_minute=100)
    house.admit(tenant=tenant, max_tokens=90)
    with pytest.raises(RateLimitExceeded, match="100 tokens a minute") as refused:
        house.admit(tenant=tenant, max_tokens=90)
    assert refused.value.retry_after_s is not None
    assert 50 < refused.value.retry_after_s <= 60
    assert house.door.ledger.held(1) == 1


async def test_a_request_too_many_says_when_the_next_may_come(house: House) -> None:
    tenant = Tenant(1, "one", requests_per_minute=2, tokens_per_minute=10_000)
    for _ in range(2):
        house.admit(tenant=tenant).close()
    with pytest.raises(RateLimitExceeded, match="2 requests a minute") as refused:
        house.admit(tenant=tenant)
    assert refused.value.retry_after_s == pytest.approx(30, abs=1)


async def test_tokens_that_are_refused_give_the_request_back(house: House) -> None:
    tenant = Tenant(1, "one", requests_per_minute=100, tokens_per_minute=50)
    house.admit(tenant=tenant, max_tokens=40)
    with pytest.raises(RateLimitExceeded, match="50 tokens"):
        house.admit(tenant=tenant, max_tokens=40)
    assert spent(house, REQUESTS) == 1


async def test_sequences_at_once_are_bounded_over_all_models(house: House) -> None:
    house.door.ledger.try_hold(1, 2)  # on another model
    house.admit(**ASKED)
    with pytest.raises(RateLimitExceeded, match="at most 3 sequences at once"):
        house.admit(**ASKED)
    assert house.door.ledger.held(1) == 3


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"n": 4}, "n"),
        ({"max_tokens": 80, "tenant": Tenant(1, "one", tokens_per_minute=80)}, "max_tokens"),
        ({"max_tokens": 1, "tenant": Tenant(1, "one", tokens_per_minute=3), "field": "messages"}, "messages"),
    ],
)
async def test_what_no_wait_would_afford_is_the_request_s_fault(
    house: House, changes: dict[str, object], param: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        house.admit(**{**ASKED, **changes})
    assert refused.value.param == param
    assert house.door.ledger.held(1) == 0


async def test_a_slow_reader_s_choice_is_paused_and_goes_on_when_it_was_read() -> None:
    house = House(submit_cells=4096, context_max=4096)
    house.door.open()
    ticket = house.admit(max_tokens=2000)
    (at,) = house.engine.submitted
    for i in range(600):
        house.engine.say(*at, 1, index=i)
        if i % 200 == 199:
            await asyncio.sleep(0.01)
            house.engine.read()
            assert house.engine.told == ([] if i < 256 else ["pause"])
    output = await anext(ticket)
    house.engine.read()
    assert len(output.token_ids) == 600
    assert house.engine.told == ["pause", "resume"]
    house.engine.say(*at, 2, FinishReason.LENGTH, index=600)
    assert [len(output.token_ids) for output in await rest(ticket)] == [1]
    house.close()


async def test_a_paused_choice_that_is_cancelled_is_not_resumed() -> None:
    house = House(submit_cells=4096, context_max=4096)
    house.door.open()
    ticket = house.admit(max_tokens=2000)
    (at,) = house.engine.submitted
    for i in range(400):
        house.engine.say(*at, 1, index=i)
        if i % 200 == 199:
            await asyncio.sleep(0.01)
    ticket.close()
    await anext(ticket)
    house.engine.read()
    assert (house.engine.told, house.engine.cancelled) == (["pause"], [at])
    house.close()


async def test_a_pause_that_finds_the_ring_full_is_told_later_and_the_last_word_counts() -> None:
    house = House(submit_cells=16, context_max=4096)
    house.door.open()
    ticket = house.admit(max_tokens=2000)
    (at,) = house.engine.submitted
    while house.route._channel.submit_cells_free >= 1:
        house.route._channel.try_cancel(99, 99)
    for i in range(400):
        house.engine.say(*at, 1, index=i)
        if i % 200 == 199:
            await asyncio.sleep(0.01)
    await anext(ticket)
    house.engine.read()
    await asyncio.sleep(0.05)
    house.engine.read()
    assert house.engine.told == ["resume"]
    house.close()
