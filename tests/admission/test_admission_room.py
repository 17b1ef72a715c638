"""Room in the queue, by tenant and class and in time; and the counts that it is judged by."""

import asyncio
import time
from array import array

import pytest
import uvloop
from admission_house import FRONT_END, House, rest
from hypothesis import given, settings
from hypothesis import strategies as st

from aruntime.admission.tenants import NOBODY, Tenant
from aruntime.base.errors import DeadlineExceeded, InvalidRequest, ModelError, Overloaded, ServingError
from aruntime.queue.columns import PASSING, Column, TenantColumn, tenant_column
from aruntime.queue.records import FinishReason, Priority

ONE, OTHER = Tenant(1, "one"), Tenant(2, "other")


def fill(house: House, **changes: object) -> int:
    """Ask until it is refused; how often it was let in."""
    for asked in range(1000):
        try:
            house.admit(**changes)
        except Overloaded:
            return asked
    raise AssertionError("never full")


async def test_a_tenant_that_floods_cannot_take_another_s_last_place() -> None:
    house = House(sequences_max=2, waiting_max=8, submit_cells=4096)
    house.door.open()
    house.door.tenants = (NOBODY, ONE, OTHER)
    assert fill(house, tenant=ONE) == 5
    with pytest.raises(Overloaded, match="5 of 5 sequences in flight are yours"):
        house.admit(tenant=ONE)
    assert fill(house, tenant=OTHER) == 3
    assert fill(house) == 1
    house.close()


@pytest.mark.parametrize("known", [(NOBODY,), (NOBODY, ONE)])
async def test_the_only_tenant_may_fill_the_queue(house: House, known: tuple[Tenant, ...]) -> None:
    house.door.tenants = known
    assert fill(house, tenant=known[-1]) == 4


async def test_a_class_leaves_room_to_those_above_it() -> None:
    house = House(sequences_max=4, waiting_max=16, submit_cells=4096)
    house.door.open()
    assert fill(house, priority=Priority.BATCH) == 16
    assert fill(house, priority=Priority.STANDARD) == 3
    assert fill(house, priority=Priority.INTERACTIVE) == 1
    house.close()


async def test_a_queue_that_takes_too_long_is_refused_and_says_how_long(house: House) -> None:
    house.queue(NOBODY, 1, 3500)
    house.admit().close()  # nothing is known of the pace
    house.pace(prefill_tokens_per_s=1000, step_us=20_000)
    with pytest.raises(Overloaded, match=r"the queue takes 3\.5 s; the objective is 2 s") as refused:
        house.admit()
    assert refused.value.retry_after_s == pytest.approx(3.5 + 0.023 - 2 * 15 / 16, abs=0.01)


async def test_a_heavier_tenant_waits_for_less(house: House) -> None:
    house.pace(prefill_tokens_per_s=1000, waiting_weight=1000)
    house.queue(OTHER, 1, 90_000)
    for tenant in (Tenant(1, "one", weight=1.0), Tenant(1, "one", weight=9.0)):
        ask = house.ask(tenant=tenant, prompts=[array("i", range(50))])
        verdict = house.route.judge(ask, time.monotonic(), True)
        assert verdict.first_s == pytest.approx(50 / 1000 * (1 + 1 / tenant.weight))


async def test_a_tenant_s_own_batch_queue_does_not_shut_out_its_interactive_requests(house: House) -> None:
    house.pace(prefill_tokens_per_s=1000)
    house.queue(ONE, 1, 5000, Priority.BATCH)
    for priority in (Priority.BATCH, Priority.STANDARD):
        house.queue(ONE, 0, 2000, priority)
        with pytest.raises(Overloaded, match="the queue takes"):
            house.admit(tenant=ONE, priority=priority)
    house.admit(tenant=ONE, priority=Priority.INTERACTIVE)
    assert house.counts(ONE, Priority.INTERACTIVE) == [1, 1, 3, 1, 1, 3]


async def test_a_deadline_out_of_reach_is_refused_at_once_and_one_within_it_is_not(house: House) -> None:
    house.pace(prefill_tokens_per_s=10, step_us=1000)  # 3 tokens: 0.3 s; half of that is certain at first
    with pytest.raises(DeadlineExceeded, match=r"forecast to take 0\.301 s"):
        house.admit(deadline_s=time.monotonic() + 0.1)
    assert house.engine.submitted == []
    house.admit(deadline_s=time.monotonic() + 0.2)


async def test_steps_that_are_sure_to_follow_the_first_token_count_against_the_deadline(house: House) -> None:
    house.pace(prefill_tokens_per_s=1000, step_us=100_000)
    with pytest.raises(DeadlineExceeded, match=r"forecast to take 0\.803 s"):
        house.admit(tokens_min=8, deadline_s=time.monotonic() + 0.3)
    house.admit(deadline_s=time.monotonic() + 0.3)


async def test_a_glance_says_no_to_the_least_that_a_request_can_be_and_takes_nothing(house: House) -> None:
    house.door.glance(house.route, house.ask())
    for _ in range(4):
        house.admit()
    with pytest.raises(Overloaded, match="4 sequences are in flight"):
        house.door.glance(house.route, house.ask())
    with pytest.raises(DeadlineExceeded):
        house.door.glance(house.route, house.ask(deadline_s=time.monotonic()))
    assert len(house.engine.submitted) == 4


async def test_each_who_is_refused_is_told_a_later_turn(house: House) -> None:
    house.pace(take_up_us=2_000_000)
    for _ in range(4):
        house.admit()
    told = []
    for _ in range(40):
        with pytest.raises(Overloaded) as refused:
            house.admit()
        assert refused.value.retry_after_s is not None
        told.append(refused.value.retry_after_s)
    assert told[:3] == [pytest.approx(2, abs=0.2), pytest.approx(4, abs=0.2), pytest.approx(6, abs=0.2)]
    assert told[-1] == pytest.approx(60, abs=0.5)
    with pytest.raises(Overloaded) as refused:
        house.admit(tenant=ONE)
    assert refused.value.retry_after_s == pytest.approx(2, abs=0.2)  # a queue of its own


async def test_forecasts_that_come_true_early_are_trusted_less(house: House) -> None:
    house.pace(prefill_tokens_per_s=10)
    before, _ = house.route.gate.ratio(house.ask().tenant.index)
    for _ in range(10):
        house.admit()
        house.engine.say(*house.engine.submitted[-1], 1, FinishReason.LENGTH)  # at once
        await asyncio.sleep(0.005)
    assert house.route.gate.ratio(house.ask().tenant.index)[0] < before


async def test_a_queue_that_took_longer_than_was_forecast_is_let_grow_less(house: House) -> None:
    house.pace(prefill_tokens_per_s=1000)
    house.queue(NOBODY, 1, 1200)
    house.admit()
    house.engine.say(*house.engine.submitted[-1], 1, FinishReason.LENGTH)  # long before
    await asyncio.sleep(0.005)
    assert house.route.gate.ratio(house.ask().tenant.index)[1] < 1
    verdict = house.route.judge(house.ask(), time.monotonic(), False)
    for _ in range(20):
        house.route.gate.begin(0, 1, 0, verdict, 3.0)
    with pytest.raises(Overloaded, match="the objective is 2 s"):
        house.admit()


async def test_what_passed_before_the_door_counts_but_for_no_more_than_half_the_objective(house: House) -> None:
    house.pace(prefill_tokens_per_s=1000)
    house.queue(NOBODY, 1, 1500)
    house.admit()
    with pytest.raises(Overloaded, match="the objective is 2 s"):
        house.admit(arrived_s=time.monotonic() - 0.6)
    house.queue(NOBODY, 0, -1000)
    house.admit(arrived_s=time.monotonic() - 5)


async def test_a_no_of_the_engine_says_when_the_door_would_say_yes(house: House) -> None:
    tickets = [house.admit(), house.admit()]
    house.queue(NOBODY, 2, 0)  # another front end saw the last places too
    house.queue(NOBODY, 1, 0)
    house.pace(take_up_us=9_000_000)
    for ticket, at, retry_after_s in zip(tickets, house.engine.submitted, (9, 1), strict=True):
        house.engine.say(*at, -1, FinishReason.OVERLOADED)
        with pytest.raises(Overloaded, match="the engine's queue is full") as refused:
            await rest(ticket)
        assert refused.value.retry_after_s == retry_after_s
        house.pace(take_up_us=0)  # and then there is room


async def test_what_the_queue_holds_is_counted_until_the_first_token_and_flight_until_the_end(house: House) -> None:
    house.admit(n=2, tenant=ONE)
    first, second = house.engine.submitted
    assert house.counts(ONE) == [2, 2, 6, 2, 2, 6]
    house.engine.say(*first, 4)
    house.engine.say(*first, 5, index=1)
    await asyncio.sleep(0.02)
    assert house.counts(ONE) == [2, 1, 3, 2, 1, 3]
    house.engine.say(*first, 6, FinishReason.LENGTH, index=2)
    house.engine.say(*second, -1, FinishReason.CANCELLED)
    await asyncio.sleep(0.02)
    assert house.counts(ONE) == [0] * 6
    assert house.table.get(FRONT_END, Column.ENDED) == 2


async def test_an_engine_that_says_the_first_token_twice_is_counted_once(house: House) -> None:
    house.admit()
    (at,) = house.engine.submitted
    house.engine.say(*at, 4)
    house.engine.say(*at, 4)
    await asyncio.sleep(0.02)
    assert house.counts(NOBODY) == [1, 0, 0, 1, 0, 0]


@settings(max_examples=30, deadline=None)
@given(ends=st.lists(st.sampled_from(["token", "length", "cancel", "refused", "dies"]), max_size=12))
def test_counts_are_zero_when_all_has_ended_however_it_did(ends: list[str]) -> None:
    async def live() -> None:
        house = House(sequences_max=4, waiting_max=4)
        house.door.open()
        tickets = []
        for end in ends:
            try:
                ticket = house.admit(tenant=ONE)
            except ServingError:
                continue
            tickets.append(ticket)
            at = house.engine.submitted[-1]
            if end in ("token", "length"):
                house.engine.say(*at, 1, FinishReason.LENGTH if end == "length" else FinishReason.NONE)
            elif end == "cancel":
                ticket.close()
            elif end == "refused":
                house.engine.say(*at, -1, FinishReason.OVERLOADED)
            await asyncio.sleep(0.002)
        for at in house.engine.submitted:
            house.engine.say(*at, -1, FinishReason.CANCELLED, index=9)
        await asyncio.sleep(0.01)
        assert house.counts(ONE) == [0] * 6
        assert house.door.ledger.held(1) == sum(bool(ticket._open) for ticket in tickets) == 0
        house.close()

    asyncio.run(live())


def test_what_is_in_flight_goes_with_its_front_end_and_the_rest_is_kept() -> None:
    assert {Column.IN_FLIGHT, Column.QUEUED, Column.QUEUED_TOKENS} <= PASSING
    assert tenant_column(255, TenantColumn.QUEUED_TOKENS, Priority.BATCH) in PASSING
    assert (
        not {
            tenant_column(255, TenantColumn.WAITING),
            Column.ENDED,
            Column.RESULTS,
            tenant_column(0, TenantColumn.SERVED),
        }
        & PASSING
    )


async def test_more_than_the_share_of_the_cache_could_ever_hold_is_the_request_s_fault(house: House) -> None:
    capped = Tenant(1, "one", cache_max=2 / (1 << 20))  # two blocks of 16
    house.admit(tenant=capped, max_tokens=29).close()
    with pytest.raises(InvalidRequest, match="33 tokens in one sequence; there is room for 32") as refused:
        house.admit(tenant=capped, max_tokens=30)
    assert refused.value.param == "max_tokens"


async def test_choices_that_no_wait_would_let_in_are_the_request_s_fault(house: House) -> None:
    house.door.tenants = (NOBODY, ONE, OTHER)
    house.admit(n=2)
    with pytest.raises(InvalidRequest, match="3 sequences") as refused:
        house.admit(n=3)
    assert refused.value.param == "n"


def test_a_deadline_in_the_queue_is_told_within_20_ms_under_uvloop() -> None:
    async def live() -> list[float]:
        house = House(sequences_max=1, waiting_max=30, submit_cells=4096)
        house.door.open()
        late = []
        for timeout_s in [0.03, 0.05, 0.08] * 3:
            time.sleep(0.03)  # noqa: ASYNC251  a long turn of the loop
            now_s = time.monotonic()
            ticket = house.admit(arrived_s=now_s, deadline_s=now_s + timeout_s)
            with pytest.raises(DeadlineExceeded):
                await rest(ticket)
            late.append(time.monotonic() - now_s - timeout_s)
        house.engine.read()
        assert len(house.engine.cancelled) == 9
        house.close()
        return late

    late = sorted(uvloop.run(live()))
    assert late[0] > -0.002
    assert late[len(late) // 2] < 0.02  # the median: this machine is shared


async def test_a_lost_replica_gives_back_what_its_requests_held(house: House) -> None:
    ticket = house.admit(n=2, tenant=ONE)
    assert house.door.ledger.held(1) == 2
    house.door.detach(7, ModelError("the engine died"))
    with pytest.raises(ModelError):
        await rest(ticket)
    assert house.door.ledger.held(1) == 0
