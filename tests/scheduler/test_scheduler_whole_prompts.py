"""With whole prompts a step never holds a part of one: what does not fit waits, and goes first in the next step."""

from array import array

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aruntime.scheduler.scheduler import Scheduler

STEP = 8


def make(step_tokens_max: int = STEP) -> Scheduler:
    return Scheduler(
        sequences_max=step_tokens_max, step_tokens_max=step_tokens_max, waiting_max=64, context_max=STEP + 1,
        block_tokens=STEP + 1, blocks=64, vocab=1, eos_token_ids=[], whole_prompts=True,
    )  # fmt: skip


@given(st.lists(st.integers(1, STEP), max_size=40), st.lists(st.integers(0, 3), min_size=40, max_size=40))
def test_every_prompt_is_computed_in_one_step_and_answered(prompts: list[int], tenants: list[int]) -> None:
    scheduler = make()
    for slot, tokens in enumerate(prompts):
        scheduler.submit(
            front_end=1, slot=slot, generation=0, prompt=array("i", [0]) * tokens, max_tokens=1, tenant=tenants[slot]
        )
    ended = []
    while (plan := scheduler.plan(0.0)).tokens:
        assert plan.tokens <= STEP
        slots = [slot for _, slot, _ in plan.owners()]
        assert np.diff(plan.query_start).tolist() == [prompts[slot] for slot in slots]
        assert plan.samples == plan.sequences
        scheduler.commit(np.zeros(plan.samples, np.int32), 0.0)
        ended += [record[0] for record in scheduler.take_outputs(1)]
        scheduler.check_integrity()
    assert sorted(ended) == list(range(len(prompts)))


def test_equal_prompts_share_nothing_when_no_block_is_ever_full() -> None:
    scheduler = make()
    for slot in range(3):
        scheduler.submit(front_end=1, slot=slot, generation=0, prompt=array("i", [0]) * STEP, max_tokens=1)
        plan = scheduler.plan(0.0)
        assert plan.tokens == STEP
        scheduler.commit(np.zeros(1, np.int32), 0.0)
    assert scheduler.stats().cached_tokens == 0


def test_a_step_that_could_never_hold_the_longest_prompt_is_refused() -> None:
    with pytest.raises(ValueError, match="of whole prompts"):
        make(STEP - 1)
