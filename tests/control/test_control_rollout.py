"""A rollout: it goes on while all is well, comes back when it is not, and ends in every case."""

from dataclasses import replace
from itertools import count

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from aruntime.control.lives import NotPossible
from aruntime.control.rollout.gates import Observation
from aruntime.control.rollout.machine import Rollout
from aruntime.control.rollout.stages import ENDS, STAGES, TRANSITIONS, Record
from aruntime.control.settings import RolloutPolicy
from aruntime.queue.columns import ANSWER_TOKENS, ITL, TTFT

POLICY = RolloutPolicy(window_s=60.0, bake_s=300.0, requests_min=50, patience_s=600.0)


def answers(n: int, *, ttft_bucket: int = 5, errors: int = 0) -> Observation:
    """`n` good answers that took about as long, and some errors."""

    def all_in(bucket: int, buckets: int) -> tuple[int, ...]:
        return tuple(n if i == bucket else 0 for i in range(buckets + 1))

    return Observation(
        ok=n,
        errors=errors,
        stopped=n,
        ttft=all_in(ttft_bucket, len(TTFT.bounds_s)),
        itl=all_in(3, len(ITL.bounds_s)),
        tokens=all_in(4, len(ANSWER_TOKENS.bounds_s)),
    )


class Drive:
    """A rollout under test, its clock, and what has been counted so far."""

    def __init__(self, policy: RolloutPolicy = POLICY, *, golden: bool = False) -> None:
        self.rollout = Rollout(Record(stable=1, candidate=2, salt=9, policy=policy))
        self.now_s, self.candidate, self.stable = 0.0, Observation(), answers(200)
        self.golden = golden

    @property
    def stage(self) -> str:
        return self.rollout.record.stage

    def tick(
        self, seconds: float = 0.0, candidate: Observation | None = None, stable: Observation | None = None
    ) -> None:
        self.now_s += seconds
        self.candidate += candidate or Observation()
        self.stable += stable or Observation()
        if self.rollout.wanted.ask_golden:
            self.candidate = replace(self.candidate, golden_asked=self.candidate.golden_asked + 1,
                                     golden_passed=self.candidate.golden_passed + 1)  # fmt: skip
        self.rollout.tick(self.now_s, self.candidate, self.stable)

    def window(self, candidate: Observation | None = None, seconds: float = 61.0) -> None:
        """A whole window with enough requests."""
        self.tick()
        self.tick(seconds, answers(60) if candidate is None else candidate, answers(600))

    def to(self, stage: str, step: int = 0) -> None:
        self.rollout.ready(golden=self.golden)
        while (self.stage, self.rollout.record.step) != (stage, step):
            self.rollout.promote("by hand")


def test_a_good_version_goes_all_the_way() -> None:
    drive = Drive(golden=True)
    way = [(drive.stage, drive.rollout.share)]
    drive.rollout.ready(golden=True)
    while drive.stage not in ENDS:
        way.append((drive.stage, drive.rollout.share))
        drive.window(seconds=301.0)
    assert way == [
        ("preparing", 0), ("shadow", 0), ("canary", 0.01), ("canary", 0.05), ("canary", 0.25), ("canary", 0.5),
        ("canary", 1.0), ("bake", 1.0),
    ]  # fmt: skip
    wanted = drive.rollout.wanted
    assert (drive.stage, wanted.stable, wanted.split, wanted.loaded) == ("complete", 2, None, {2})
    assert drive.rollout.record.reason == "60 requests in 301 s without a breach"


def test_the_shadow_gets_copies_and_the_canary_gets_answers() -> None:
    drive = Drive()
    drive.to("shadow")
    shadow = drive.rollout.wanted.split
    drive.to("canary", 1)
    canary = drive.rollout.wanted.split
    assert shadow is not None
    assert canary is not None
    assert (shadow.share, shadow.mirror) == (0, 0.1)
    assert (canary.share, canary.mirror, canary.salt, canary.version) == (0.05, 0, shadow.salt, 2)


@pytest.mark.parametrize(("stage", "step"), [("shadow", 0), ("canary", 0), ("canary", 4), ("bake", 4)])
@pytest.mark.parametrize("bad", ["slow", "errors", "golden"])
def test_a_bad_version_comes_back_from_every_stage_before_its_window_is_over(stage: str, step: int, bad: str) -> None:
    drive = Drive()
    drive.to(stage, step)
    drive.tick()
    seen = {
        "slow": answers(45, ttft_bucket=12),
        "errors": answers(25, errors=20),
        "golden": Observation(golden_asked=3, golden_passed=2),
    }[bad]
    drive.tick(2.0, seen, answers(450) if step < 4 else None)
    wanted = drive.rollout.wanted
    assert (drive.stage, wanted.stable, wanted.split, wanted.loaded) == ("rolled_back", 1, None, {1})
    assert drive.rollout.record.reason.startswith({"slow": "ttft: p95", "errors": "errors: 20 of 45"}.get(bad, bad))


def test_what_turns_bad_since_the_last_look_is_seen_at_the_end_of_the_stage() -> None:
    drive = Drive()
    drive.to("canary", 1)
    drive.tick()
    drive.tick(30.0, answers(40), answers(1000))
    drive.tick(29.0, answers(4, errors=25), None)  # 69: the next look would be at 80
    assert drive.stage == "canary"
    drive.tick(2.0)
    assert (drive.stage, drive.rollout.record.step) == ("rolled_back", 1)


def test_without_traffic_of_its_own_the_stable_version_is_what_it_last_was() -> None:
    drive = Drive()
    drive.stable = Observation()  # nothing was counted before the rollout
    drive.to("canary", 3)
    drive.window()
    assert drive.rollout.record.step == 4
    drive.rollout = Rollout(Record.model_validate_json(drive.rollout.record.model_dump_json()))  # and over a restart
    drive.candidate = drive.stable = Observation()
    drive.tick()
    drive.tick(2.0, answers(100, ttft_bucket=12))
    assert drive.stage == "rolled_back"


@pytest.mark.parametrize("seconds", [59.0, 61.0])
@pytest.mark.parametrize("requests", [49, 50])
def test_a_stage_ends_with_time_and_requests(seconds: float, requests: int) -> None:
    drive = Drive()
    drive.to("canary", 0)
    drive.window(answers(requests), seconds)
    assert drive.rollout.record.step == (seconds > 60 and requests >= 50)


def test_a_stage_with_golden_questions_ends_when_they_were_asked() -> None:
    drive = Drive(golden=True)
    drive.to("shadow")
    drive.tick()
    assert drive.rollout.wanted.ask_golden
    drive.candidate += answers(60)
    drive.now_s += 61
    drive.rollout.tick(drive.now_s, drive.candidate, drive.stable)
    assert (drive.stage, drive.rollout.missing) == ("shadow", "no golden question has been answered")
    drive.tick()
    assert drive.stage == "canary"


def test_too_few_requests_pause_it_when_patience_is_over_and_resume_begins_anew() -> None:
    drive = Drive()
    drive.to("canary", 2)
    drive.window(answers(7), 660.0)
    assert not drive.rollout.record.paused
    drive.tick(1.0)
    assert drive.rollout.record.reason == ("paused after 661 s: only 7 of 50 requests of the candidate have ended")
    assert (drive.rollout.record.paused, drive.rollout.share) == (True, 0.25)
    drive.rollout.resume()
    drive.window(answers(49), 400.0)
    assert (drive.rollout.record.paused, drive.rollout.record.step) == (False, 2)
    drive.tick(1.0, answers(1))
    assert drive.rollout.record.step == 3


def test_a_pause_holds_the_stage_but_not_the_gates() -> None:
    drive = Drive()
    drive.to("canary", 1)
    drive.rollout.pause("lunch")
    drive.window()
    assert (drive.stage, drive.rollout.record.step, drive.rollout.share) == ("canary", 1, 0.05)
    drive.tick(1.0, answers(100, ttft_bucket=14), answers(1000))
    assert drive.stage == "rolled_back"


def test_a_pause_holds_a_candidate_that_becomes_ready() -> None:
    drive = Drive()
    drive.rollout.pause("not today")
    drive.rollout.ready(golden=False)
    assert drive.stage == "preparing"
    drive.rollout.resume()
    assert drive.stage == "shadow"


def test_engines_of_the_candidate_may_die_so_many_times() -> None:
    drive = Drive()
    drive.to("canary", 1)
    for _ in range(POLICY.deaths_max):
        drive.rollout.candidate_died()
    assert drive.stage == "canary"
    drive.rollout.candidate_died()
    assert (drive.stage, drive.rollout.record.reason) == ("rolled_back", "engines of the candidate died 3 times")


def test_a_death_of_the_stable_version_begins_the_window_anew() -> None:
    drive = Drive()
    drive.to("canary", 1)
    drive.tick()
    drive.tick(59.0, answers(100), answers(1000))
    drive.rollout.stable_died()
    drive.tick(2.0)
    assert drive.rollout.record.step == 1
    drive.tick(61.0, answers(50), answers(500))
    assert drive.rollout.record.step == 2


@pytest.mark.parametrize("ready", [False, True])
def test_a_candidate_that_cannot_be_served_changes_nothing_for_anybody(ready: bool) -> None:
    drive = Drive()
    if ready:
        drive.to("canary", 2)
    drive.rollout.fail("NaN in its weights")
    assert drive.stage == ("rolled_back" if ready else "aborted")
    assert drive.rollout.record.reason == "the candidate failed: NaN in its weights"
    assert drive.rollout.wanted.loaded == {1}


def test_drain_first_has_one_version_in_memory_and_requests_wait() -> None:
    drive = Drive(POLICY.model_copy(update={"strategy": "drain-first"}))
    wanted = drive.rollout.wanted
    assert (wanted.loaded, wanted.hold, wanted.split, wanted.stable) == ({2}, True, None, 1)
    drive.tick()
    drive.rollout.ready(golden=False)
    wanted = drive.rollout.wanted
    assert (drive.stage, wanted.loaded) == ("bake", {2})
    assert wanted.split is not None
    assert wanted.split.share == 1
    drive.window(answers(50, ttft_bucket=14))
    wanted = drive.rollout.wanted
    assert (drive.stage, wanted.loaded, wanted.hold, wanted.stable) == ("rolled_back", {1}, True, 1)


def test_drain_first_loads_the_old_version_again_when_the_new_one_fails() -> None:
    drive = Drive(POLICY.model_copy(update={"strategy": "drain-first"}))
    drive.rollout.fail("it does not fit")
    assert (drive.stage, drive.rollout.wanted.loaded, drive.rollout.wanted.hold) == ("aborted", {1}, True)


def test_a_rollout_without_shadow_begins_with_its_first_step() -> None:
    drive = Drive(POLICY.model_copy(update={"shadow_share": 0.0}))
    drive.rollout.ready(golden=False)
    assert (drive.stage, drive.rollout.share) == ("canary", 0.01)


def test_what_an_operator_cannot_do_is_said_in_words() -> None:
    drive = Drive()
    with pytest.raises(NotPossible, match="never ready cannot be promoted"):
        drive.rollout.promote("now")
    drive.to("canary", 0)
    with pytest.raises(NotPossible, match="a rollout that is canary cannot abort"):
        drive.rollout.abort("no")
    drive.rollout.roll_back("by hand")
    for event in (drive.rollout.promote, drive.rollout.pause, drive.rollout.roll_back):
        with pytest.raises(NotPossible, match="a rollout that is rolled_back cannot be"):
            event("again")


def test_steps_must_grow() -> None:
    with pytest.raises(ValueError, match="grow from step to step"):
        RolloutPolicy(steps=[0.5, 0.1])


def test_every_stage_can_be_reached_and_left_until_an_end() -> None:
    seen = {"preparing"}
    while more := {after for stage in seen for after in TRANSITIONS[stage].values()} - seen:  # type: ignore[index]
        seen |= more
    assert seen == set(STAGES)
    for stage in STAGES:
        assert (stage in ENDS) == (not TRANSITIONS[stage])


class Operators(RuleBasedStateMachine):
    """Any events in any order, on any policy."""

    @initialize(
        strategy=st.sampled_from(["canary", "drain-first"]),
        shadow=st.sampled_from([0.0, 0.1]),
        steps=st.lists(st.floats(0.01, 1), min_size=1, max_size=4, unique=True).map(sorted),
        golden=st.booleans(),
        bake_s=st.sampled_from([0.0, 300.0]),
    )
    def begin(self, strategy: str, shadow: float, steps: list[float], golden: bool, bake_s: float) -> None:
        changes = {"strategy": strategy, "shadow_share": shadow, "steps": steps, "bake_s": bake_s}
        self.drive = Drive(POLICY.model_copy(update=changes), golden=golden)
        self.share = 0.0
        self.end: str | None = None

    @property
    def rollout(self) -> Rollout:
        return self.drive.rollout

    @rule(seconds=st.sampled_from([0.0, 1.0, 40.0, 500.0, 2000.0]), good=st.integers(0, 80), bad=st.integers(0, 30))
    def tick(self, seconds: float, good: int, bad: int) -> None:
        self.drive.tick(seconds, answers(good, errors=bad), answers(10 * good))

    @rule(event=st.sampled_from(["ready", "fail", "candidate_died", "stable_died"]))
    def happens(self, event: str) -> None:
        match event:
            case "ready":
                self.rollout.ready(golden=self.drive.golden)
            case "fail":
                self.rollout.fail("broken")
            case _:
                getattr(self.rollout, event)()

    @rule(event=st.sampled_from(["pause", "resume", "promote", "roll_back", "abort"]))
    def is_asked(self, event: str) -> None:
        before = self.rollout.record
        try:
            self.rollout.resume() if event == "resume" else getattr(self.rollout, event)("by hand")
        except NotPossible:
            assert self.rollout.record == before
            assert before.over or event in ("promote", "abort")

    @rule()
    def server_restarts(self) -> None:
        wanted, record = self.rollout.wanted, self.rollout.record
        self.drive.rollout = Rollout(Record.model_validate_json(record.model_dump_json()))
        self.drive.candidate = self.drive.stable = Observation()  # counted since the server started
        assert self.rollout.record == record
        assert replace(self.rollout.wanted, ask_golden=False) == replace(wanted, ask_golden=False)

    @precondition(lambda self: not self.rollout.record.over)
    @rule()
    def goes_on_to_its_end_while_all_is_well(self) -> None:
        drive = Drive()
        drive.rollout = Rollout(self.rollout.record)
        drive.golden = self.drive.golden
        if drive.rollout.record.paused:
            drive.rollout.resume()
        drive.rollout.ready(golden=drive.golden)
        for turn in count():
            if drive.rollout.record.over:
                break
            assert turn < 8, drive.rollout.record
            drive.window(seconds=301.0)
        assert drive.stage == "complete"

    @invariant()
    def the_share_grows_until_an_end_and_is_nothing_after_it(self) -> None:
        record, wanted = self.rollout.record, self.rollout.wanted
        if record.over:
            assert (wanted.split, self.rollout.share, record.paused) == (None, 0, False)
        else:
            assert self.rollout.share >= self.share
            assert wanted.split is None or 0 < wanted.split.share + wanted.split.mirror <= 1
        self.share = self.rollout.share

    @invariant()
    def it_ends_once(self) -> None:
        record = self.rollout.record
        if self.end is not None:
            assert record.stage == self.end
        self.end = record.stage if record.over else None

    @invariant()
    def whoever_gets_requests_is_loaded_and_the_old_version_is_warm_until_the_end(self) -> None:
        record, wanted = self.rollout.record, self.rollout.wanted
        assert wanted.stable == (record.candidate if record.stage == "complete" else record.stable)
        if wanted.split is not None:
            assert record.candidate in wanted.loaded
        if not record.over and record.policy.strategy == "canary":
            assert wanted.loaded == {record.stable, record.candidate}
        if record.policy.strategy == "drain-first":
            assert len(wanted.loaded) == 1
        if record.over:
            assert wanted.loaded == {wanted.stable}


Operators.TestCase.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
TestOperators = Operators.TestCase
