"""How a sequence comes, runs and ends, case by case."""

import gc
from typing import Any

import numpy as np
import pytest
from scheduler_play import (
    CANCELLED,
    DEADLINE,
    DRAINING,
    EOS,
    INVALID,
    LENGTH,
    MODEL_ERROR,
    NONE,
    OVERLOADED,
    STOP,
    make,
    step,
    submit,
    told,
)

from aruntime.scheduler.scheduler import StepPlan

# Refusals.


@pytest.mark.parametrize(
    "wrong",
    [
        {"prompt": []},
        {"prompt": [5, 100]},
        {"prompt": [5, -1]},
        {"prompt": 64},
        {"max_tokens": 0},
        {"temperature": float("nan")},
        {"temperature": -1.0},
        {"top_p": 0.0},
        {"min_p": 1.5},
        {"presence_penalty": 3.0},
        {"frequency_penalty": float("inf")},
        {"repetition_penalty": 0.0},
        {"top_k": -1},
        {"priority": 3},
        {"deadline_s": float("nan")},
        {"stop_token_ids": [100]},
    ],
)
def test_a_request_that_cannot_be_served_is_answered_invalid(wrong: dict[str, Any]) -> None:
    scheduler = make()
    assert submit(scheduler, **wrong) == INVALID
    assert told(scheduler) == [(0, -1, 0, INVALID)]
    assert scheduler.plan(0.0).tokens == 0


def test_a_prompt_that_outgrows_the_whole_pool_is_invalid_and_one_that_fills_it_ends_by_length() -> None:
    scheduler = make(blocks=4)
    assert submit(scheduler, prompt=16) == INVALID
    assert submit(scheduler, slot=1, prompt=15) == NONE
    step(scheduler)
    assert told(scheduler) == [(0, -1, 0, INVALID), (1, 7, 0, LENGTH)]


def test_a_full_queue_is_an_answer() -> None:
    scheduler = make(waiting_max=2)
    assert [submit(scheduler, slot) for slot in range(3)] == [NONE, NONE, OVERLOADED]
    assert told(scheduler) == [(2, -1, 0, OVERLOADED)]


def test_bounds_that_change_count_from_now_on_and_what_waits_stays() -> None:
    scheduler = make(waiting_max=20)
    assert {submit(scheduler, slot, prompt=[slot + 3] * 5) for slot in range(20)} == {NONE}
    scheduler.set_bounds(waiting_max=2, itl_s=0.5)
    assert submit(scheduler, 20) == OVERLOADED
    step(scheduler)
    assert scheduler.stats().waiting > 2
    scheduler.set_bounds(waiting_max=21, itl_s=0.5)
    assert submit(scheduler, 21) == NONE
    for wrong in ({"waiting_max": 0, "itl_s": 1.0}, {"waiting_max": 1, "itl_s": 0.0}):
        with pytest.raises(ValueError, match="cannot be 0"):
            scheduler.set_bounds(**wrong)
    assert submit(scheduler, 22) == NONE


def test_draining_refuses_what_comes_and_finishes_what_is_there() -> None:
    scheduler = make()
    submit(scheduler, max_tokens=1)
    scheduler.drain()
    assert submit(scheduler, 1) == DRAINING
    step(scheduler)
    assert told(scheduler) == [(1, -1, 0, DRAINING), (0, 7, 0, LENGTH)]


def test_a_second_submit_of_a_name_that_lives_has_no_answer_of_its_own() -> None:
    scheduler = make()
    assert submit(scheduler, max_tokens=1) == NONE
    assert submit(scheduler, max_tokens=1) == INVALID
    step(scheduler)
    assert told(scheduler) == [(0, 7, 0, LENGTH)]


def test_a_front_end_that_takes_no_ends_fills_its_own_share_only() -> None:
    scheduler = make(sequences_max=1, waiting_max=1)
    for slot in range(2):
        assert submit(scheduler, slot, max_tokens=1) == NONE
        step(scheduler)
    assert submit(scheduler, 2) == OVERLOADED
    assert submit(scheduler, 2, front_end=2) == NONE
    assert len(told(scheduler)) == 3
    scheduler.cancel(2, 2, 0)
    assert submit(scheduler, 3) == NONE


def test_a_front_end_that_takes_no_refusals_is_backlogged_and_no_other() -> None:
    scheduler = make()
    scheduler.drain()
    for slot in range(16384):
        assert not scheduler.backlogged(1)
        submit(scheduler, slot)
    assert scheduler.backlogged(1)
    assert not scheduler.backlogged(2)
    assert [slot for slot, *_ in told(scheduler, limit=100)] == list(range(100))
    assert not scheduler.backlogged(1)


# Ends.


def test_an_end_of_sequence_token_is_the_end_and_no_text() -> None:
    scheduler = make()
    submit(scheduler)
    step(scheduler, 7)
    step(scheduler, EOS)
    assert told(scheduler) == [(0, 7, 0, NONE), (0, -1, 1, STOP)]
    assert scheduler.stats().output_tokens == 1


def test_a_stop_token_ends_and_an_ignored_end_of_sequence_does_not() -> None:
    scheduler = make()
    submit(scheduler, stop_token_ids=[9], ignore_eos=True)
    for token in (EOS, 9):
        step(scheduler, token)
    assert told(scheduler) == [(0, EOS, 0, NONE), (0, -1, 1, STOP)]


def test_no_end_is_allowed_before_min_tokens() -> None:
    scheduler = make()
    submit(scheduler, 0, min_tokens=2, stop_token_ids=[9])
    submit(scheduler, 1, min_tokens=1, stop_token_ids=[8], ignore_eos=True)
    banned = []
    for _ in range(3):
        plan = step(scheduler)
        banned.append(list(zip(plan.banned_row.tolist(), plan.banned_token.tolist(), strict=True)))
    assert banned == [[(0, EOS), (0, 9), (1, 8)], [(0, EOS), (0, 9)], []]


def test_an_end_that_a_model_gives_before_min_tokens_is_text() -> None:
    scheduler = make()
    submit(scheduler, min_tokens=1)
    for _ in range(2):
        step(scheduler, EOS)
    assert told(scheduler) == [(0, EOS, 0, NONE), (0, -1, 1, STOP)]


def test_one_more_step_may_be_planned_while_one_runs_and_each_is_committed_once() -> None:
    scheduler = make()
    submit(scheduler, max_tokens=2)
    first = scheduler.plan(0.0)
    assert (first.tokens, first.decodes) == (3, 0)
    second = scheduler.plan(0.0)
    assert (second.tokens, second.decodes, second.positions.tolist(), second.position.tolist()) == (1, 1, [3], [1])
    assert second.token_source.tolist() == [0]  # the token that the first samples in its row 0
    with pytest.raises(RuntimeError, match="two steps are under way"):
        scheduler.plan(0.0)
    for token in (7, 8):
        scheduler.commit(np.full(1, token, np.int32), 0.0)
        scheduler.check_integrity()
    assert scheduler.plan(0.0).tokens == 0
    scheduler.fail_step()
    assert told(scheduler) == [(0, 7, 0, NONE), (0, 8, 1, LENGTH)]


def test_what_was_planned_ahead_of_an_end_is_dropped() -> None:
    scheduler = make()
    submit(scheduler)
    scheduler.plan(0.0)
    scheduler.plan(0.0)
    scheduler.commit(np.full(1, EOS, np.int32), 0.0)
    assert scheduler.stats().blocks_free == 32
    scheduler.commit(np.full(1, 9, np.int32), 0.0)
    assert told(scheduler) == [(0, -1, 0, STOP)]


def test_nobody_is_planned_ahead_beyond_his_last_token_or_where_what_he_says_counts() -> None:
    scheduler = make()
    submit(scheduler, 0, max_tokens=1)
    submit(scheduler, 1, presence_penalty=0.5)
    submit(scheduler, 2, min_tokens=1)
    assert len(scheduler.plan(0.0).banned_row) == 1
    ahead = scheduler.plan(0.0)
    assert (ahead.owners(), ahead.token_source.tolist(), len(ahead.banned_row)) == ([(1, 2, 0)], [2], 0)


def test_the_last_token_by_length_carries_the_end() -> None:
    scheduler = make()
    submit(scheduler, 0, max_tokens=2)
    submit(scheduler, 1, prompt=61, max_tokens=100)
    for _ in range(8):
        step(scheduler)
    tokens = told(scheduler)
    assert [entry for entry in tokens if entry[0] == 0] == [(0, 7, 0, NONE), (0, 7, 1, LENGTH)]
    assert [entry for entry in tokens if entry[0] == 1] == [(1, 7, 0, NONE), (1, 7, 1, NONE), (1, 7, 2, LENGTH)]


def test_a_deadline_ends_what_waits_and_what_runs_and_is_known_before() -> None:
    scheduler = make(sequences_max=1)
    assert scheduler.next_deadline_s() == float("inf")
    submit(scheduler, 0, deadline_s=2.0)
    submit(scheduler, 1, deadline_s=1.0)
    assert scheduler.next_deadline_s() == 1.0
    step(scheduler, now_s=0.5)  # whoever is due first goes first
    scheduler.plan(1.0)
    assert told(scheduler) == [(1, 7, 0, NONE), (1, -1, 1, DEADLINE)]
    assert scheduler.next_deadline_s() == 2.0
    assert scheduler.plan(2.5).tokens == 0
    assert told(scheduler) == [(0, -1, 0, DEADLINE)]
    assert scheduler.stats().blocks_free == 32


def test_a_deadline_that_passes_while_the_step_runs_ends_the_sequence_in_its_commit() -> None:
    scheduler = make()
    submit(scheduler, deadline_s=1.0)
    plan = scheduler.plan(0.9)
    scheduler.commit(np.full(plan.samples, 7, np.int32), 1.1)
    assert told(scheduler) == [(0, 7, 0, NONE), (0, -1, 1, DEADLINE)]


def test_a_cancel_while_the_step_runs_drops_its_token_and_frees_its_blocks_at_once() -> None:
    scheduler = make()
    submit(scheduler, 0)
    submit(scheduler, 1)
    plan = scheduler.plan(0.0)
    scheduler.cancel(1, 0, 0)
    assert scheduler.stats().blocks_free == 31
    submit(scheduler, 0, generation=1)  # the slot's next request, before the step's commit and before the old end
    scheduler.commit(np.arange(10, 10 + plan.samples, dtype=np.int32), 0.0)
    assert scheduler.take_outputs(1) == [(0, 0, -1, 0, CANCELLED, 0, 0.0, 0), (1, 0, 11, 0, NONE, 0, 0.0, 0)]
    step(scheduler, 20)
    assert (0, 1, 20, 0, NONE, 0, 0.0, 0) in scheduler.take_outputs(1)
    scheduler.check_integrity()


def test_a_cancel_of_what_is_unknown_or_ended_does_nothing() -> None:
    scheduler = make()
    submit(scheduler, max_tokens=1)
    step(scheduler)
    for generation in (0, 1):
        scheduler.cancel(1, 0, generation)
    scheduler.cancel(2, 0, 0)
    assert told(scheduler) == [(0, 7, 0, LENGTH)]


def test_a_dropped_front_end_is_gone_with_all_it_had_also_while_a_step_runs() -> None:
    scheduler = make(sequences_max=2)
    for slot in range(3):
        submit(scheduler, slot)
    submit(scheduler, 9, front_end=2, priority=0)
    submit(scheduler, 8, max_tokens=0)
    plan = scheduler.plan(0.0)
    scheduler.drop_front_end(1)
    scheduler.commit(np.full(plan.samples, 7, np.int32), 0.0)
    assert told(scheduler) == []
    assert told(scheduler, 2) == [(9, 7, 0, NONE)]
    stats = scheduler.stats()
    assert (stats.waiting, stats.running, stats.blocks_free, stats.undelivered) == (0, 1, 31, 0)


def test_a_failed_step_ends_its_sequences_and_no_other() -> None:
    scheduler = make(sequences_max=1)
    submit(scheduler, 0)
    submit(scheduler, 1)
    scheduler.plan(0.0)
    scheduler.fail_step()
    assert told(scheduler) == [(0, -1, 0, MODEL_ERROR)]
    step(scheduler)
    assert told(scheduler) == [(1, 7, 0, NONE)]


@pytest.mark.parametrize("token", [-1, 100, 2**31 - 1])
def test_a_sampled_number_that_is_no_token_ends_its_own_sequence(token: int) -> None:
    scheduler = make()
    submit(scheduler, 0)
    submit(scheduler, 1)
    plan = scheduler.plan(0.0)
    assert plan.samples == 2
    scheduler.commit(np.array([token, 7], np.int32), 0.0)
    assert told(scheduler) == [(0, -1, 0, MODEL_ERROR), (1, 7, 0, NONE)]


# Delivery.


def test_nothing_is_lost_or_out_of_order_when_outputs_are_taken_one_by_one() -> None:
    scheduler = make(waiting_max=2)
    for slot in range(3):
        submit(scheduler, slot, max_tokens=4)
    for token in range(10, 16):
        step(scheduler, token)
    assert scheduler.stats().undelivered == 3
    taken = []
    while one := told(scheduler, limit=1):
        taken += one
    assert taken[0] == (2, -1, 0, OVERLOADED)
    for slot in range(2):
        mine = [entry[1:] for entry in taken if entry[0] == slot]
        assert mine == [(10 + index, index, LENGTH if index == 3 else NONE) for index in range(4)]
    assert scheduler.stats().undelivered == 0


def test_each_token_comes_with_its_logprob() -> None:
    scheduler = make()
    submit(scheduler)
    for logprob in (-0.5, -0.25):
        plan = scheduler.plan(0.0)
        scheduler.commit(np.full(plan.samples, 7, np.int32), 0.0, np.full(plan.samples, logprob, np.float32))
    assert [entry[6] for entry in scheduler.take_outputs(1)] == [-0.5, -0.25]


# Order.


def slots_of(plan: StepPlan) -> list[int]:
    """The first tokens of the prompts that a plan begins with; tests give each request its own."""
    return plan.token_ids[plan.query_start[:-1]].tolist()


def test_of_classes_that_were_idle_the_higher_goes_first_and_within_it_who_came_first() -> None:
    scheduler = make(sequences_max=4)
    for slot, priority in ((10, 2), (11, 1), (12, 0), (13, 1), (14, 0)):
        submit(scheduler, slot, prompt=[slot], priority=priority)
    assert slots_of(step(scheduler)) == [12, 14, 11, 13]


def test_a_later_prompt_of_a_higher_class_is_prefilled_before_the_rest_of_a_long_one() -> None:
    scheduler = make()
    submit(scheduler, 10, prompt=[10] * 40, priority=2)
    step(scheduler)
    submit(scheduler, 11, prompt=[11] * 6, priority=0)
    plan = step(scheduler)
    assert np.diff(plan.query_start).tolist() == [6, 10]
    assert slots_of(plan) == [11, 10]


@pytest.mark.parametrize(("blocks_wanted", "taken_up"), [(25, True), (26, False)])
def test_a_newcomer_leaves_a_little_of_the_pool_to_those_who_run(blocks_wanted: int, taken_up: bool) -> None:
    scheduler = make(blocks=128, context_max=512, step_tokens_max=512)  # a 64th is 2
    submit(scheduler, 10, prompt=400)
    step(scheduler)
    submit(scheduler, 11, prompt=4 * blocks_wanted)
    submit(scheduler, 12, prompt=1)  # who came later does not overtake
    assert step(scheduler).decodes == 1
    assert scheduler.stats().running == (2 if taken_up else 1)
    scheduler.cancel(1, 10, 0)
    step(scheduler)
    assert scheduler.stats().running == 2


def test_a_long_prompt_never_stalls_a_decode() -> None:
    scheduler = make()
    submit(scheduler, 0, max_tokens=30, prompt=[9])
    step(scheduler)
    submit(scheduler, 1, prompt=60)
    for _ in range(5):
        plan = step(scheduler)
        assert plan.decodes >= 1
        assert plan.tokens <= 16
    assert len([entry for entry in told(scheduler) if entry[0] == 0]) == 6


def test_when_blocks_run_out_the_youngest_of_the_lowest_class_waits_at_the_head_of_its_class() -> None:
    scheduler = make(blocks=6, sequences_max=3, step_tokens_max=64)
    for slot, priority in ((10, 1), (11, 2), (12, 2)):
        submit(scheduler, slot, prompt=[slot] * 8, priority=priority, max_tokens=20)
    submit(scheduler, 13, prompt=[13], priority=2)
    step(scheduler)  # every block is full: each next token needs one more
    plan = step(scheduler)
    assert plan.decodes == 2
    assert scheduler.stats().preemptions == 1
    assert scheduler.stats().waiting_tokens == 9 + 1
    assert slots_of(plan) == [7, 7]
    scheduler.cancel(1, 10, 0)
    plan = step(scheduler)
    assert np.diff(plan.query_start).tolist() == [1, 9]
    assert plan.token_ids[1:10].tolist() == [12] * 8 + [7]
    assert plan.position[1] == 1
    assert scheduler.stats().prompt_tokens == 24


# The face.


def test_the_arrays_of_a_plan_are_one_memory_that_outlives_the_scheduler() -> None:
    scheduler = make()
    submit(scheduler)
    first = step(scheduler).token_ids
    second = step(scheduler).token_ids  # two steps may be under way: two memories, by turns
    assert not np.shares_memory(first, second)
    assert np.shares_memory(first, scheduler.plan(0.0).token_ids)
    del scheduler
    gc.collect()
    assert first.shape == (3,)
    first.sum()


def test_an_idle_scheduler_plans_nothing() -> None:
    scheduler = make()
    plan = step(scheduler)
    assert (plan.tokens, plan.sequences, plan.samples, plan.block_tables.shape) == (0, 0, 0, (0, 0))
    assert plan.query_start.tolist() == [0]
    assert scheduler.stats().steps == 0


def test_counts_tell_what_waits_runs_and_was_done() -> None:
    scheduler = make(sequences_max=2, step_tokens_max=4)
    for slot in range(3):
        submit(scheduler, slot, prompt=3)
    step(scheduler)
    stats = scheduler.stats()
    assert (stats.waiting, stats.waiting_tokens, stats.running, stats.paused, stats.undelivered) == (1, 3, 2, 0, 0)
    assert (stats.blocks_free, stats.blocks_total, stats.blocks_cached, stats.blocks_reserved) == (30, 32, 0, 0)
    assert (stats.preemptions, stats.steps, stats.prompt_tokens, stats.cached_tokens) == (0, 1, 3, 0)
    assert (stats.output_tokens, stats.waiting_weight) == (1, 1.0)
    assert scheduler.tenant(0) == (1, 2, 0, 2, 4)


def test_tokens_left_are_what_all_that_has_not_ended_may_still_say() -> None:
    scheduler = make(sequences_max=2, step_tokens_max=8)
    for slot in range(3):
        submit(scheduler, slot, prompt=3, max_tokens=5)
    assert scheduler.stats().tokens_left == 15
    step(scheduler)
    assert scheduler.stats().tokens_left == 13  # two of them have said something
    scheduler.pause(1, 0, 0)
    assert scheduler.stats().tokens_left == 13
    scheduler.cancel(1, 0, 0)
    assert scheduler.stats().tokens_left == 9
    scheduler.drop_front_end(1)
    assert scheduler.stats().tokens_left == 0
    submit(scheduler, 9, prompt=3, max_tokens=1000)  # the context is shorter
    assert scheduler.stats().tokens_left == 64 - 3


@pytest.mark.parametrize(
    ("limit", "value"),
    [("sequences_max", 0), ("step_tokens_max", 3), ("waiting_max", 0), ("context_max", 1), ("block_tokens", 0),
     ("blocks", 0), ("blocks", 2**30), ("vocab", 0)],
)  # fmt: skip
def test_a_limit_that_cannot_be_is_named(limit: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{limit}.* cannot be {value}"):
        make(**{limit: value})


def test_a_caller_s_wrong_shapes_and_numbers_are_refused() -> None:
    scheduler = make()
    submit(scheduler)
    scheduler.plan(0.0)
    with pytest.raises(ValueError, match=r"want \[1\]"):
        scheduler.commit(np.zeros(2, np.int32), 0.0)
    with pytest.raises(ValueError, match=r"want \[1\]"):
        scheduler.commit(np.zeros(1, np.int32), 0.0, np.zeros(2, np.float32))
    with pytest.raises(ValueError, match="front ends are 0 to 63"):
        submit(scheduler, front_end=64)
    with pytest.raises(ValueError, match="at most 16 stop_token_ids"):
        submit(scheduler, stop_token_ids=range(17))
