"""Whatever front ends do, in whatever order: the books balance after every step and each request ends once."""

import random
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from scheduler_world import Request, World

FRONT_ENDS = st.integers(0, 2)
# Two tenants that share prefixes, one that is capped, one with reservations.
TENANTS: dict[int, dict[str, Any]] = {
    1: {"weight": 2.0, "prefix_group": 1},
    2: {"prefix_group": 1, "cache_max": 0.5},
    3: {"weight": 0.5, "prefix_group": 3, "cache_reserved": 0.4, "tokens_per_s_reserved": 20.0},
}


class SchedulerMachine(RuleBasedStateMachine):
    @initialize(
        sequences_max=st.integers(1, 6),
        spare_tokens=st.integers(0, 20),
        waiting_max=st.integers(1, 8),
        context_max=st.integers(20, 60),
        block_tokens=st.sampled_from([1, 3, 4]),
        blocks=st.integers(8, 24),
    )
    def begin(self, spare_tokens: int, **limits: int) -> None:
        self.world = World(step_tokens_max=limits["sequences_max"] + spare_tokens, **limits)
        for tenant, terms in TENANTS.items():
            self.world.set_tenant(tenant, **terms)
        self.slot = 0

    @rule(
        front_end=FRONT_ENDS,
        prompt=st.lists(st.integers(0, 20), max_size=20),
        shared=st.integers(0, 20),
        tenant=st.integers(0, 3),
        max_tokens=st.integers(0, 40),
        min_tokens=st.integers(0, 5),
        priority=st.integers(0, 2),
        ignore_eos=st.booleans(),
        stops=st.sets(st.integers(0, 15), max_size=3),
        timeout_s=st.sampled_from([float("inf"), float("inf"), 0.0, 2.0, 10.0]),
        penalties=st.sampled_from([(1.0, 0.0), (1.0, 0.5), (1.5, 0.0), (1.5, 0.5)]),
        bias=st.dictionaries(st.integers(0, 20), st.sampled_from([-100.0, 2.5]), max_size=3),
        bad_words=st.lists(st.lists(st.integers(0, 15), min_size=1, max_size=3).map(tuple), max_size=3),
        grammar=st.sampled_from(["", "", "g"]),
        top_logprobs=st.sampled_from([0, 0, 3]),
        prompt_logprobs=st.booleans(),
    )
    def submit(
        self,
        front_end: int,
        prompt: list[int],
        shared: int,
        tenant: int,
        max_tokens: int,
        min_tokens: int,
        priority: int,
        ignore_eos: bool,
        stops: set[int],
        timeout_s: float,
        penalties: tuple[float, float],
        bias: dict[int, float],
        bad_words: list[tuple[int, ...]],
        grammar: str,
        top_logprobs: int,
        prompt_logprobs: bool,
    ) -> None:
        self.slot += 1
        self.world.submit(
            Request(
                key=(front_end, self.slot, self.slot % 3),
                prompt=[*range(shared), *prompt],
                max_tokens=max_tokens,
                seed=self.slot,
                tenant=tenant,
                priority=priority,
                min_tokens=min_tokens,
                ignore_eos=ignore_eos,
                stop_token_ids=tuple(sorted(stops)),
                deadline_s=self.world.now_s + timeout_s,
                repetition_penalty=penalties[0],
                presence_penalty=penalties[1],
                logit_bias=tuple(bias.items()),
                bad_words=tuple(bad_words),
                grammar=grammar,
                top_logprobs=top_logprobs,
                prompt_logprobs=prompt_logprobs,
            )
        )

    @rule(
        front_end=FRONT_ENDS,
        prompt=st.lists(st.integers(0, 20), max_size=20),
        shared=st.integers(0, 20),
        tenant=st.integers(0, 3),
        pooling=st.integers(1, 2),
        max_tokens=st.integers(1, 2),
        timeout_s=st.sampled_from([float("inf"), 2.0]),
    )
    def submit_for_a_vector(
        self,
        front_end: int,
        prompt: list[int],
        shared: int,
        tenant: int,
        pooling: int,
        max_tokens: int,
        timeout_s: float,
    ) -> None:
        self.slot += 1
        self.world.submit(
            Request(
                key=(front_end, self.slot, 0),
                prompt=[*range(shared), *prompt],
                max_tokens=max_tokens,
                seed=0,
                tenant=tenant,
                pooling=pooling,
                deadline_s=self.world.now_s + timeout_s,
            )
        )

    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        if self.world.requests:
            self.world.release(data.draw(st.sampled_from(sorted(self.world.requests))))

    @rule(steps=st.integers(1, 8))
    def step(self, steps: int) -> None:
        for _ in range(steps):
            self.world.now_s += 0.25
            self.world.step()

    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        if self.world.requests:
            self.world.cancel(data.draw(st.sampled_from(sorted(self.world.requests))))

    @rule(data=st.data())
    def cancel_while_the_step_runs(self, data: st.DataObject) -> None:
        self.world.plan()
        if self.world.requests:
            self.world.cancel(data.draw(st.sampled_from(sorted(self.world.requests))))
        self.world.run()
        self.world.commit()

    @rule(data=st.data(), resume=st.booleans())
    def pause_or_resume(self, data: st.DataObject, resume: bool) -> None:
        known = [key for key, request in self.world.requests.items() if not request.finish]
        if known:
            self.world.pause(data.draw(st.sampled_from(sorted(known))), resume=resume)

    @rule(steps=st.integers(1, 8))
    def plan_each_step_while_the_one_before_runs(self, steps: int) -> None:
        for _ in range(steps):
            self.world.now_s += 0.25
            self.world.plan()
            self.world.run()
            if len(self.world.under_way) == 2:
                self.world.commit()
        while self.world.under_way:
            self.world.commit()

    @rule(front_end=FRONT_ENDS)
    def drop_while_the_step_runs(self, front_end: int) -> None:
        self.world.plan()
        self.world.drop(front_end)
        self.world.run()
        self.world.commit()

    @rule()
    def fail(self) -> None:
        self.world.plan()
        self.world.fail()

    @rule(front_end=FRONT_ENDS, limit=st.integers(0, 20))
    def take(self, front_end: int, limit: int) -> None:
        self.world.take(front_end, limit)

    def teardown(self) -> None:
        if hasattr(self, "world"):
            self.world.finish()


SchedulerMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestWhateverFrontEndsDo = SchedulerMachine.TestCase


def random_request(chance: random.Random, slot: int, now_s: float) -> Request:
    if chance.random() < 0.2:
        return random_vector(chance, slot, now_s)
    return Request(
        key=(slot % 3, slot, slot % 5),
        prompt=[chance.randrange(3), *range(chance.randrange(40)), *chance.choices(range(20), k=chance.randrange(20))],
        tenant=chance.randrange(4),
        max_tokens=chance.randrange(60),
        seed=chance.getrandbits(64),
        priority=chance.randrange(3),
        min_tokens=chance.choice([0, 0, 9]),
        ignore_eos=chance.random() < 0.7,
        stop_token_ids=tuple(chance.choices(range(16), k=chance.choice([0, 0, 2]))),
        deadline_s=now_s + chance.choice([float("inf"), float("inf"), 5.0, 30.0]),
        repetition_penalty=chance.choice([1.0, 1.3]),
        presence_penalty=chance.choice([0.0, 0.5]),
        logit_bias=chance.choice([(), ((3, -1.5), (5, 4.0))]),
        bad_words=chance.choice([(), (), ((4,), (1, 2), (2, 3, 1))]),
        grammar=chance.choice(["", "", "", "g"]),
        top_logprobs=chance.choice([0, 0, 2, 20]),
        prompt_logprobs=chance.random() < 0.3,
    )


def random_vector(chance: random.Random, slot: int, now_s: float) -> Request:
    return Request(
        key=(slot % 3, slot, slot % 5),
        prompt=[chance.randrange(3), *range(chance.randrange(70))],
        tenant=chance.randrange(4),
        max_tokens=1,
        seed=0,
        priority=chance.randrange(3),
        deadline_s=now_s + chance.choice([float("inf"), 5.0]),
        pooling=chance.choice([1, 2]),
    )


def random_world(chance: random.Random) -> World:
    world = World(
        sequences_max=chance.randrange(4, 12),
        step_tokens_max=chance.randrange(12, 60),
        waiting_max=chance.randrange(5, 40),
        context_max=100,
        block_tokens=chance.choice([1, 3, 4, 8]),
        blocks=chance.randrange(30, 60),
    )
    for tenant, terms in TENANTS.items():
        world.set_tenant(tenant, **terms)
    return world


@pytest.mark.parametrize("ahead", [0, 1])
@pytest.mark.parametrize("seed", range(6))
def test_a_random_life_keeps_every_promise(seed: int, ahead: int) -> None:
    chance = random.Random(seed)
    world = random_world(chance)
    slot = 0
    for _ in range(400):
        world.now_s += 0.25
        for _ in range(chance.choice([0, 0, 1, 3])):
            slot += 1
            world.submit(random_request(chance, slot, world.now_s))
        world.plan()
        live = sorted(key for key, request in world.requests.items() if not request.finish)
        if live and chance.random() < 0.2:
            world.cancel(chance.choice(live))
        for key in live[:2]:
            world.release(key)
        if live and chance.random() < 0.3:
            world.pause(chance.choice(live), resume=chance.random() < 0.6)
        if chance.random() < 0.01:
            world.drop(chance.randrange(3))
        if chance.random() < 0.02:
            world.run()
            world.fail()
        world.run()
        while len(world.under_way) > ahead:
            world.commit()
        world.take(chance.randrange(3), chance.randrange(40))
    while world.under_way:
        world.commit()
    world.finish()
    stats = world.scheduler.stats()
    assert stats.preemptions > 0
    assert stats.cached_tokens > 0


@pytest.mark.parametrize("seed", range(3))
def test_the_preempted_finish_with_the_tokens_of_an_undisturbed_run(seed: int) -> None:
    chance = random.Random(seed)
    world = World(sequences_max=8, step_tokens_max=24, waiting_max=200, context_max=120, block_tokens=4, blocks=40)
    for slot in range(1, 100):
        request = random_request(chance, slot, 0.0)
        request.deadline_s = float("inf")
        world.submit(request)
    world.finish()
    assert world.scheduler.stats().preemptions > 20
