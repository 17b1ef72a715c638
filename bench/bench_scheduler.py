"""What the scheduler costs: plan + commit of a decoding step, and a prompt that arrives.

    python -m pytest bench/bench_scheduler.py --benchmark-enable

Goals on a quiet core: plan + commit at 256 decoding <= 50 us, at 1,024 <= 200 us; submit of 2,048 tokens <= 10 us; a
prompt of 32,768 tokens that is in the prefix cache whole, submitted and taken up, <= 60 us.
"""

from array import array
from typing import Any

import numpy as np
import pytest

from aruntime.scheduler.scheduler import Scheduler

CONTEXT = 40_000


def make(sequences_max: int = 1024) -> Scheduler:
    return Scheduler(
        sequences_max=sequences_max,
        step_tokens_max=8192,
        waiting_max=1024,
        context_max=CONTEXT,
        block_tokens=16,
        blocks=200_000,
        vocab=128_256,
        eos_token_ids=[2],
    )


def submit(scheduler: Scheduler, prompt: Any) -> None:
    """Let one sequence wait."""
    assert not scheduler.submit(front_end=1, slot=0, generation=0, prompt=prompt, max_tokens=512)


def answer(scheduler: Scheduler, prompt: Any) -> None:
    """Compute a prompt and its first token, and forget the sequence: its blocks stay in the cache."""
    submit(scheduler, prompt)
    while (plan := scheduler.plan(0.0)).tokens and not plan.samples:
        scheduler.commit(np.empty(0, np.int32), 0.0)
    scheduler.commit(np.full(1, 7, np.int32), 0.0)
    scheduler.drop_front_end(1)


def decoding(sequences: int, tenants: int = 1, sequences_max: int = 1024) -> Scheduler:
    """A scheduler with that many sequences past their prompts of 512 tokens."""
    scheduler = make(sequences_max)
    prompt = array("i", [5]) * 512
    for slot in range(sequences):
        scheduler.submit(
            front_end=1, slot=slot, generation=0, prompt=prompt, max_tokens=CONTEXT, seed=slot, ignore_eos=True,
            tenant=slot % tenants,
        )  # fmt: skip
    decodes = 0
    while decodes < sequences:
        plan = scheduler.plan(0.0)
        decodes = plan.decodes
        scheduler.commit(np.full(plan.samples, 7, np.int32), 0.0)
    return scheduler


@pytest.mark.parametrize("sequences", [16, 64, 256, 1024])
@pytest.mark.benchmark(group="plan + commit")
def test_plan_and_commit(benchmark: Any, sequences: int) -> None:
    scheduler = decoding(sequences)
    tokens, logprobs = np.full(sequences, 7, np.int32), np.zeros(sequences, np.float32)

    def turn() -> None:
        scheduler.plan(0.0)
        scheduler.commit(tokens, 0.0, logprobs)

    benchmark.pedantic(turn, rounds=300, warmup_rounds=20)
    scheduler.check_integrity()


@pytest.mark.benchmark(group="plan + commit")
def test_plan_and_commit_256_of_64_tenants_while_64_wait(benchmark: Any) -> None:
    scheduler = decoding(256, tenants=64, sequences_max=256)
    for slot in range(64):
        scheduler.submit(
            front_end=2, slot=slot, generation=0, prompt=array("i", [slot]) * 900, max_tokens=9, tenant=slot
        )
    tokens, logprobs = np.full(256, 7, np.int32), np.zeros(256, np.float32)

    def turn() -> None:
        scheduler.plan(0.0)
        scheduler.commit(tokens, 0.0, logprobs)

    benchmark.pedantic(turn, rounds=300, warmup_rounds=20)
    assert (scheduler.stats().waiting, scheduler.stats().running) == (64, 256)


@pytest.mark.benchmark(group="plan + commit")
def test_plan_and_commit_256_where_one_ends_and_one_comes_each_step(benchmark: Any) -> None:
    scheduler = decoding(256)
    prompt, slots = array("i", [5]) * 64, iter(range(1 << 20))

    def turn() -> None:
        slot = next(slots)
        scheduler.cancel(1, slot, 0)
        scheduler.submit(front_end=1, slot=slot + 256, generation=0, prompt=prompt, max_tokens=999, ignore_eos=True)
        samples = scheduler.plan(0.0).samples
        scheduler.commit(np.full(samples, 7, np.int32), 0.0)

    benchmark.pedantic(turn, rounds=300, warmup_rounds=20)
    scheduler.check_integrity()


@pytest.mark.parametrize("tokens", [2048, 32_768])
@pytest.mark.benchmark(group="submit and drop")
def test_submit(benchmark: Any, tokens: int) -> None:
    scheduler = make()
    prompt = array("i", [5]) * tokens

    def turn() -> None:
        submit(scheduler, prompt)
        scheduler.drop_front_end(1)

    benchmark.pedantic(turn, rounds=300, warmup_rounds=20)


@pytest.mark.parametrize("tokens", [2048, 32_768])
@pytest.mark.benchmark(group="submit, take up and plan a prompt that is cached whole")
def test_a_prompt_that_is_cached(benchmark: Any, tokens: int) -> None:
    scheduler = make()
    prompt = np.random.default_rng(1).integers(0, 128_256, tokens, dtype=np.int32)
    answer(scheduler, prompt)

    def turn() -> None:
        submit(scheduler, prompt)
        scheduler.plan(0.0)

    def leave() -> None:
        scheduler.fail_step()
        scheduler.drop_front_end(1)

    benchmark.pedantic(turn, setup=leave, rounds=300, warmup_rounds=20)
    assert scheduler.plan(0.0).tokens <= 16
