"""Who gets what, case by case: shares of service, places and blocks; what is shared, paused, and given up."""

from typing import Any

import numpy as np
import pytest
from scheduler_play import CANCELLED, DEADLINE, INVALID, LENGTH, NONE, make, step, submit, told

from aruntime.scheduler.scheduler import Scheduler, StepPlan

INTERACTIVE, STANDARD, BATCH = range(3)


def whose(plan: StepPlan) -> list[int]:
    """The slots in a step."""
    return [slot for _, slot, _ in plan.owners()]


def planned(scheduler: Scheduler, now_s: float = 0.0, token: int = 7) -> list[int]:
    """Run one step; the slots that were in it."""
    plan = scheduler.plan(now_s)
    slots = whose(plan)
    scheduler.commit(np.full(plan.samples, token, np.int32), now_s)
    scheduler.check_integrity()
    return slots


# Service.


def test_a_tenant_that_floods_is_one_tenant() -> None:
    scheduler = make(sequences_max=8, step_tokens_max=8, waiting_max=100)
    for slot in range(20):
        submit(scheduler, slot, prompt=8, tenant=1, max_tokens=1)
    planned(scheduler)
    submit(scheduler, 50, prompt=8, tenant=2, max_tokens=1)
    submit(scheduler, 51, prompt=8, tenant=2, max_tokens=1)
    order = [slot for _ in range(5) for slot in planned(scheduler)]
    assert order.index(50) <= 1
    assert order.index(51) <= 3


def test_a_long_prompt_does_not_hold_up_another_tenant_s_short_one() -> None:
    scheduler = make(step_tokens_max=8, context_max=128)
    submit(scheduler, 0, prompt=100, tenant=1)
    planned(scheduler)
    submit(scheduler, 1, prompt=4, tenant=2)
    assert planned(scheduler) == [1, 0]


def test_what_is_computed_again_is_not_charged_again() -> None:
    scheduler = make(blocks=8, sequences_max=2)
    submit(scheduler, 0, prompt=12, tenant=1, max_tokens=18)
    submit(scheduler, 1, prompt=12, tenant=2, max_tokens=18)
    for _ in range(60):
        step(scheduler)
    assert scheduler.stats().preemptions > 0
    assert scheduler.tenant(1).served == scheduler.tenant(2).served == 12 + 17


# Places.


def test_a_higher_class_takes_a_place_from_a_lower_one_of_its_tenant_once_that_has_got_on() -> None:
    scheduler = make(sequences_max=2, context_max=64)
    for slot in range(2):
        submit(scheduler, slot, prompt=2, priority=BATCH, max_tokens=50)
    planned(scheduler)
    submit(scheduler, 9, prompt=2, priority=INTERACTIVE, max_tokens=4)
    seen = [planned(scheduler) for _ in range(4)]
    assert seen[0] == [0, 1]  # a block's worth first
    assert seen[3] == [0, 9]  # then the last to come gives way


def test_a_tenant_below_its_share_takes_a_place_from_one_above_and_never_more() -> None:
    scheduler = make(sequences_max=4, blocks=64)
    for slot in range(8):
        submit(scheduler, slot, prompt=2, tenant=1, max_tokens=60)
    for _ in range(8):
        planned(scheduler)
    for slot in range(20, 28):
        submit(scheduler, slot, prompt=2, tenant=2, max_tokens=60)
    for _ in range(8):
        planned(scheduler)
    assert (scheduler.tenant(1).running, scheduler.tenant(2).running) == (2, 2)
    before = scheduler.stats().preemptions
    for _ in range(20):
        planned(scheduler)
    assert scheduler.stats().preemptions == before == 2  # nobody chases anybody round


def test_a_tenant_below_its_reserved_service_takes_a_place_from_one_that_reserves_nothing() -> None:
    scheduler = make(sequences_max=2, blocks=64)
    scheduler.set_tenant(1, weight=0.001, tokens_per_s_reserved=100.0)
    for slot in range(2):
        submit(scheduler, slot, prompt=2, tenant=2, max_tokens=60)
    for now_s in range(8):
        planned(scheduler, float(now_s))
    submit(scheduler, 9, prompt=2, tenant=1, max_tokens=4)
    assert 9 in planned(scheduler, 8.0)


# Blocks.


def test_a_tenant_at_its_cap_waits_and_others_do_not() -> None:
    scheduler = make(blocks=32)
    scheduler.set_tenant(1, cache_max=0.25)
    submit(scheduler, 0, prompt=20, tenant=1)
    submit(scheduler, 1, prompt=20, tenant=1)
    submit(scheduler, 2, prompt=20, tenant=2)
    for _ in range(4):
        planned(scheduler)
    assert scheduler.tenant(1)[:2] == (1, 1)
    assert scheduler.tenant(2)[:2] == (0, 1)
    scheduler.cancel(1, 0, 0)
    planned(scheduler)
    assert scheduler.tenant(1)[:2] == (0, 1)


def test_a_prompt_beyond_its_tenant_s_cap_is_invalid_and_an_answer_ends_at_it() -> None:
    scheduler = make(blocks=32)
    scheduler.set_tenant(1, cache_max=0.25)
    assert submit(scheduler, 0, prompt=32, tenant=1) == INVALID
    assert submit(scheduler, 1, prompt=30, tenant=1, max_tokens=20) == NONE
    for _ in range(10):
        planned(scheduler)
    assert told(scheduler)[-1] == (1, 7, 1, LENGTH)


def test_what_is_reserved_is_lent_out_and_taken_back() -> None:
    scheduler = make(blocks=32, context_max=128, step_tokens_max=128, sequences_max=8)
    scheduler.set_tenant(1, cache_reserved=0.5)
    scheduler.set_tenant(2, cache_reserved=0.25)
    submit(scheduler, 0, prompt=28, tenant=2)  # 7 blocks, all within its reservation
    for slot in range(1, 4):
        submit(scheduler, slot, prompt=30, tenant=3)  # 24 blocks, borrowed
    planned(scheduler)
    assert (scheduler.tenant(3).blocks, scheduler.tenant(2).blocks) == (24, 7)
    submit(scheduler, 9, prompt=60, tenant=1)  # 15 blocks of the 16 that are its own
    slots = planned(scheduler)
    assert 9 in slots
    assert scheduler.tenant(1).blocks == 15
    assert scheduler.tenant(2).blocks >= 7
    assert scheduler.stats().preemptions == 2


def test_who_reserves_nothing_takes_nothing_back() -> None:
    scheduler = make(blocks=32, context_max=128, step_tokens_max=128)
    submit(scheduler, 0, prompt=100, tenant=1)
    planned(scheduler)
    submit(scheduler, 1, prompt=60, tenant=2)
    planned(scheduler)
    assert scheduler.tenant(2)[:2] == (1, 0)
    assert scheduler.stats().preemptions == 0


@pytest.mark.parametrize(
    ("term", "value"),
    [("weight", 0.0), ("weight", float("nan")), ("cache_max", 0.0), ("cache_max", 1.5), ("cache_reserved", -0.1),
     ("tokens_per_s_reserved", float("inf"))],
)  # fmt: skip
def test_a_term_that_cannot_be_is_named(term: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{term}.* cannot be"):
        make().set_tenant(1, **{term: value})


def test_there_are_256_tenants() -> None:
    with pytest.raises(IndexError):
        make().set_tenant(256)
    assert submit(make(), tenant=256) == INVALID
    with pytest.raises(ValueError, match="tenants are 0 to 255"):
        make().tenant(256)


# Prefixes.


def cached(scheduler: Scheduler) -> dict[int, int]:
    """Cached tokens by slot, of what can be taken."""
    return {record[0]: record[5] for record in scheduler.take_outputs(1)}


def test_a_prompt_that_was_computed_is_not_computed_again_but_for_its_last_token() -> None:
    scheduler = make(step_tokens_max=64)
    submit(scheduler, 0, prompt=[9] * 16, max_tokens=1)
    assert planned(scheduler) == [0]
    for slot, length in ((1, 16), (2, 17), (3, 15)):
        submit(scheduler, slot, prompt=[9] * length, max_tokens=1)
        plan = step(scheduler)
        assert plan.tokens == length - (length - 1) // 4 * 4
    assert cached(scheduler) == {0: 0, 1: 12, 2: 16, 3: 12}
    assert (scheduler.stats().prompt_tokens, scheduler.stats().cached_tokens) == (64, 40)


def test_what_a_sequence_said_is_found_again_in_the_next_turn_of_its_conversation() -> None:
    scheduler = make(step_tokens_max=64)
    submit(scheduler, 0, prompt=[9] * 6, max_tokens=7)
    for _ in range(7):
        step(scheduler, 30)
    submit(scheduler, 1, prompt=[9] * 6 + [30] * 7 + [9], max_tokens=1)
    assert step(scheduler).tokens == 14 - 12


def test_tenants_share_prefixes_only_in_a_group() -> None:
    scheduler = make(step_tokens_max=64)
    for tenant, group in ((1, 10), (2, 20), (3, 10)):
        scheduler.set_tenant(tenant, prefix_group=group)
    for slot, tenant in enumerate((1, 2, 3)):
        submit(scheduler, slot, prompt=[9] * 9, tenant=tenant, max_tokens=1)
        step(scheduler)
    assert cached(scheduler) == {0: 0, 1: 0, 2: 8}


def test_choices_of_one_prompt_share_its_blocks_and_wait_until_they_are_written() -> None:
    scheduler = make(step_tokens_max=16, context_max=128)
    for slot in range(4):
        submit(scheduler, slot, prompt=[9] * 41, seed=slot)
    assert [planned(scheduler) for _ in range(4)] == [[0], [0], [0], [0, 1, 2, 3]]
    assert scheduler.stats().blocks_total - scheduler.stats().blocks_free == 10 + 4
    assert cached(scheduler) == {0: 0, 1: 40, 2: 40, 3: 40}


def test_whoever_waits_for_blocks_that_will_never_be_written_computes_them() -> None:
    scheduler = make(step_tokens_max=8, context_max=64)
    for slot in range(2):
        submit(scheduler, slot, prompt=[9] * 30, max_tokens=1)
    assert planned(scheduler) == [0]
    scheduler.cancel(1, 0, 0)
    assert planned(scheduler) == [1]
    for _ in range(3):
        planned(scheduler)
    assert [entry[3] for entry in told(scheduler)] == [CANCELLED, LENGTH]


def test_others_of_a_tenant_do_not_wait_behind_one_that_follows() -> None:
    scheduler = make(step_tokens_max=8, context_max=64)
    for slot, prompt in ((0, [9] * 30), (1, [9] * 30), (2, [8] * 4)):
        submit(scheduler, slot, prompt=prompt, priority=INTERACTIVE if slot == 2 else STANDARD)
    assert planned(scheduler) == [2, 0]


# Pause.


def test_who_is_paused_computes_nothing_keeps_his_blocks_and_goes_on_where_he_was() -> None:
    scheduler = make()
    submit(scheduler, 0, max_tokens=4)
    submit(scheduler, 1, max_tokens=9)
    planned(scheduler)
    scheduler.pause(1, 0, 0)
    scheduler.pause(1, 0, 0)
    assert planned(scheduler) == planned(scheduler) == [1]
    assert (scheduler.stats().paused, scheduler.stats().running) == (1, 1)
    scheduler.resume(1, 0, 0)
    scheduler.resume(1, 0, 0)
    plan = step(scheduler)
    assert (whose(plan) or plan.tokens) == 2
    for _ in range(3):
        step(scheduler)
    assert [entry[1:3] for entry in told(scheduler) if entry[0] == 0] == [(7, index) for index in range(4)]


def test_who_is_paused_yields_first_and_is_prefilled_again_when_he_goes_on() -> None:
    scheduler = make(blocks=8, sequences_max=2, step_tokens_max=64)
    submit(scheduler, 0, prompt=14, priority=INTERACTIVE)
    planned(scheduler)
    scheduler.pause(1, 0, 0)
    submit(scheduler, 1, prompt=20, priority=BATCH, max_tokens=1)
    assert planned(scheduler) == [1]
    assert scheduler.stats().preemptions == 1
    scheduler.resume(1, 0, 0)
    for _ in range(9):
        step(scheduler)
    assert (0, 7, 9, LENGTH) in told(scheduler)


def test_a_paused_sequence_can_end_in_every_way() -> None:
    scheduler = make()
    for slot, deadline_s in enumerate((float("inf"), 1.0, float("inf"))):
        submit(scheduler, slot, deadline_s=deadline_s)
    plan = scheduler.plan(0.0)
    for slot in range(3):
        scheduler.pause(1, slot, 0)
    scheduler.commit(np.array([7, 7, 2], np.int32), 0.0)  # the last one's token is the end
    scheduler.cancel(1, 0, 0)
    assert scheduler.plan(2.0).tokens == 0
    ends = {entry[0]: entry[3] for entry in told(scheduler) if entry[3]}
    assert ends == {0: CANCELLED, 1: DEADLINE, 2: 1}
    assert scheduler.stats().blocks_free == 32
    assert plan.samples == 3


def test_who_was_never_taken_up_can_be_paused_and_waits_again_when_resumed() -> None:
    scheduler = make(sequences_max=1)
    submit(scheduler, 0, max_tokens=2)
    submit(scheduler, 1, max_tokens=1)
    scheduler.pause(1, 1, 0)
    assert [planned(scheduler) for _ in range(3)] == [[0], [0], []]
    scheduler.resume(1, 1, 0)
    assert planned(scheduler) == [1]


# Time.


def paced(**changes: Any) -> tuple[Scheduler, float]:
    """A scheduler that has seen steps of 1 ms, 0.1 ms a prompt token and 0.5 ms a decode; and the time."""
    scheduler = make(step_tokens_max=64, context_max=4096, blocks=1024, sequences_max=16, **changes)
    now_s = 0.0
    for slot in range(40):
        submit(scheduler, slot, prompt=[slot + 3] * (1 + 7 * slot % 50), max_tokens=1 + slot % 5)
        for _ in range(slot % 5):
            plan = scheduler.plan(now_s)
            now_s += 1e-3 + 1e-4 * (plan.tokens - plan.decodes) + 5e-4 * plan.decodes
            scheduler.commit(np.full(plan.samples, 7, np.int32), now_s)
        scheduler.take_outputs(1)
    return scheduler, now_s


def test_a_step_takes_no_more_of_prompts_than_the_objective_allows_those_who_decode() -> None:
    scheduler, now_s = paced(itl_s=0.004)
    submit(scheduler, 100, max_tokens=500)
    while scheduler.stats().running + scheduler.stats().waiting > 1:
        step(scheduler, now_s=now_s)
    submit(scheduler, 101, prompt=[99] * 1000)
    plan = scheduler.plan(now_s)
    assert plan.decodes == 1
    assert 20 <= plan.tokens - 1 <= 30  # 1 ms + 0.5 ms leave 2.5 ms, 25 tokens


def test_an_objective_that_cannot_be_met_leaves_prompts_as_much_time_as_decodes_take() -> None:
    scheduler, now_s = paced(itl_s=1e-6)
    submit(scheduler, 100, max_tokens=500)
    while scheduler.stats().running + scheduler.stats().waiting > 1:
        step(scheduler, now_s=now_s)
    submit(scheduler, 101, prompt=[99] * 1000)
    plan = scheduler.plan(now_s)
    assert plan.decodes == 1
    assert plan.tokens - 1 == 16 == pytest.approx(1.5e-3 / 1e-4, rel=0.3)


def test_with_nobody_decoding_a_step_is_filled() -> None:
    scheduler, now_s = paced(itl_s=0.004)
    while scheduler.stats().running + scheduler.stats().waiting > 0:
        step(scheduler, now_s=now_s)
    submit(scheduler, 101, prompt=[99] * 1000)
    assert scheduler.plan(now_s).tokens == 64


def test_a_prompt_that_cannot_be_read_before_its_deadline_is_not_begun() -> None:
    scheduler, now_s = paced()
    submit(scheduler, 100, prompt=[98] * 1000, deadline_s=now_s + 0.01)  # it takes 0.1 s
    submit(scheduler, 101, prompt=[99] * 10, deadline_s=now_s + 0.01)
    scheduler.take_outputs(1)
    plan = scheduler.plan(now_s)
    assert (1, 100, 0) not in plan.owners()
    assert (1, 101, 0) in plan.owners()
    assert told(scheduler) == [(100, -1, 0, DEADLINE)]


def test_the_signals_tell_the_pace_and_the_queue() -> None:
    scheduler, now_s = paced()
    while scheduler.stats().running + scheduler.stats().waiting > 0:
        step(scheduler, now_s=now_s)
    stats = scheduler.stats()
    assert stats.step_s == pytest.approx(1e-3, rel=0.6)
    assert stats.prefill_tokens_per_s == pytest.approx(64 / 7.4e-3, rel=0.3)
    assert (stats.take_up_s, stats.oldest_s, stats.waiting_weight) == (0.0, 0.0, 0.0)
    for slot in range(100, 108):
        submit(scheduler, slot, prompt=[slot - 50] * 200, arrived_s=now_s + slot, tenant=slot % 2)
    stats = scheduler.stats()
    assert (stats.waiting_weight, stats.oldest_s) == (2.0, now_s + 100)
    assert stats.drain_s > 1600 / 64 * 7.4e-3 * 0.7


def test_the_time_between_two_taken_up_is_told_while_places_are_taken() -> None:
    scheduler = make(sequences_max=2, waiting_max=100)
    for slot in range(50):
        submit(scheduler, slot, max_tokens=10)
    now_s = 0.0
    for _ in range(100):
        now_s += 0.01
        step(scheduler, now_s=now_s)
    assert scheduler.stats().take_up_s == pytest.approx(0.1 / 2, rel=0.3)
