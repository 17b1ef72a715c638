"""What the scheduler costs: plan + commit of a decoding step, and the submit of a prompt.

    python -m pytest bench/bench_scheduler.py --benchmark-enable

Goals on a quiet core: plan + commit at 256 decoding <= 50 us, at 1,024 <= 200 us; submit of 2,048 tokens <= 10 us.
"""

from array import array
from typing import Any

import numpy as np
import pytest

from aruntime.scheduler.scheduler import Scheduler

CONTEXT = 40_000


def make() -> Scheduler:
    return Scheduler(
        sequences_max=1024,
        step_tokens_max=8192,
        waiting_max=1024,
        context_max=CONTEXT,
        block_tokens=16,
        blocks=200_000,
        vocab=128_256,
        eos_token_ids=[2],
    )


def decoding(sequences: int) -> Scheduler:
    """A scheduler with that many sequences past their prompts of 512 tokens."""
    scheduler = make()
    prompt = array("i", [5]) * 512
    for slot in range(sequences):
        scheduler.submit(
            front_end=1, slot=slot, generation=0, prompt=prompt, max_tokens=CONTEXT, seed=slot, ignore_eos=True
        )
    while (plan := scheduler.plan(0.0)).decodes < sequences:
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

    def submit() -> None:
        assert not scheduler.submit(front_end=1, slot=0, generation=0, prompt=prompt, max_tokens=512)
        scheduler.drop_front_end(1)

    benchmark.pedantic(submit, rounds=300, warmup_rounds=20)
