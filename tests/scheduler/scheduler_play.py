"""One scheduler played by hand: what the tests of its cases share."""

from array import array
from typing import Any

import numpy as np

from aruntime.scheduler.scheduler import Scheduler, StepPlan

NONE, STOP, LENGTH, CANCELLED, DEADLINE, MODEL_ERROR, OVERLOADED, INVALID, DRAINING, GRAMMAR = range(10)
EOS = 2


def make(**changes: Any) -> Scheduler:
    limits: dict[str, Any] = {
        "sequences_max": 4,
        "step_tokens_max": 16,
        "waiting_max": 8,
        "context_max": 64,
        "block_tokens": 4,
        "blocks": 32,
        "vocab": 100,
        "eos_token_ids": [EOS],
    }
    return Scheduler(**{**limits, **changes})


def submit(scheduler: Scheduler, slot: int = 0, prompt: int | list[int] = 3, **more: Any) -> int:
    # Each slot a prompt of its own: equal ones would share their blocks.
    tokens = [3 + slot % 90] * prompt if isinstance(prompt, int) else prompt
    asked: dict[str, Any] = {"front_end": 1, "slot": slot, "generation": 0, "max_tokens": 10, **more}
    return scheduler.submit(prompt=array("i", tokens), **asked)


def step(scheduler: Scheduler, token: int = 7, now_s: float = 0.0) -> StepPlan:
    plan = scheduler.plan(now_s)
    scheduler.commit(np.full(plan.samples, token, np.int32), now_s)
    scheduler.check_integrity()
    return plan


def told(scheduler: Scheduler, front_end: int = 1, limit: int = 4096) -> list[tuple[int, int, int, int]]:
    """(slot, token, index, finish) of what can be taken."""
    taken = scheduler.take_outputs(front_end, limit)
    scheduler.check_integrity()
    return [(slot, token, index, finish) for slot, _, token, index, finish, *_ in taken]
