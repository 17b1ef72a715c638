"""The gates of a rollout: equal versions pass them as often as promised, worse ones do not."""

import math
import random
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aruntime.control.rollout.gates import FEW, Counts, Observation, Verdict, judge
from aruntime.control.rollout.significance import binomial_tail, fisher_tail, smirnov_tail
from aruntime.control.settings import RolloutPolicy
from aruntime.queue.columns import ANSWER_TOKENS, ITL, TTFT, Histogram

POLICY = RolloutPolicy()
ALPHA = 0.01


def buckets(histogram: Histogram, values: list[float]) -> Counts:
    counts = [0] * (len(histogram.bounds_s) + 1)
    for value in values:
        counts[bisect_left(histogram.bounds_s, value)] += 1
    return tuple(counts)


def play(
    seed: int, requests: int, *, slower: float = 1.0, errors: float = 0.001, cut: float = 0.4, empty: float = 0.0
) -> Observation:
    """What is counted of so many requests to a version that is so much slower, fails and cuts so often."""
    draw = random.Random(seed)
    failed = sum(draw.random() < errors for _ in range(requests))
    answers = requests - failed
    cuts = sum(draw.random() < cut for _ in range(answers))
    tokens = [128.0] * cuts + [float(int(draw.lognormvariate(3.5, 0.6))) for _ in range(answers - cuts)]
    pace = [slower * draw.lognormvariate(-4, 0.3) for _ in range(answers)]  # one answer's times are much alike
    return Observation(
        ok=answers,
        errors=failed,
        stopped=answers - cuts,
        cut=cuts,
        empty=sum(draw.random() < empty for _ in range(answers)),
        golden_asked=4,
        golden_passed=4,
        ttft=buckets(TTFT, [slower * draw.lognormvariate(-2, 0.5) for _ in range(answers)]),
        itl=buckets(ITL, [one * draw.uniform(0.9, 1.1) for one in pace for _ in range(20)]),
        tokens=buckets(ANSWER_TOKENS, tokens),
    )


def breaches(candidate: Observation, stable: Observation | None, alpha: float = ALPHA) -> dict[str, str]:
    return {one.gate: one.sentence for one in judge(POLICY, candidate, stable, alpha) if one.outcome == "breach"}


def test_the_tests_give_the_probabilities_of_the_textbook() -> None:
    # The lady tasting tea, 4 of 4 cups and 3 of 4; Kolmogorov's critical value of 1.358 at 5 %.
    eight_or_more = sum(math.comb(50, k) * 0.05**k * 0.95 ** (50 - k) for k in range(8, 51))
    assert binomial_tail(8, 50, 0.05) == pytest.approx(eight_or_more)
    assert binomial_tail(4, 4, 0.5) == pytest.approx(1 / 16)
    assert fisher_tail(4, 4, 0, 4) == pytest.approx(1 / 70)
    assert fisher_tail(3, 4, 1, 4) == pytest.approx(17 / 70)
    assert smirnov_tail(1.3581, 2_000_000_000, 1) == pytest.approx(0.05, rel=1e-3)


def test_a_test_is_quick_however_many_there_are() -> None:
    assert binomial_tail(60_000, 1_000_000, 0.05) < 1e-12
    assert fisher_tail(60_000, 1_000_000, 50_000, 1_000_000) < 1e-12


@pytest.mark.parametrize(("requests", "beside"), [(25, 25), (50, 50), (50, 2000), (400, 400)])
def test_equal_versions_breach_no_more_often_than_alpha_says(requests: int, beside: int) -> None:
    rounds, alpha = 400, 0.1

    def one(seed: int, n: int) -> Observation:
        return play(seed, n, errors=0.15, empty=0.15)

    alarms = sum(bool(breaches(one(2 * seed, requests), one(2 * seed + 1, beside), alpha)) for seed in range(rounds))
    # Were it exactly alpha, so many would be seen in 1 of 1000 runs.
    assert binomial_tail(alarms, rounds, alpha) > 0.001, alarms


@pytest.mark.parametrize(
    ("gate", "changes"),
    [
        ("ttft", {"slower": 3.0}),
        ("itl", {"slower": 3.0}),
        ("errors", {"errors": 0.1}),
        ("cut", {"cut": 1.0}),
        ("lengths", {"cut": 1.0}),
        ("stopped", {"cut": 0.0}),
        ("empty", {"empty": 0.3}),
    ],
)
def test_a_bad_version_is_found_in_two_windows_of_the_fewest_requests(gate: str, changes: dict[str, float]) -> None:
    requests = 2 * POLICY.requests_min
    found = [
        gate in breaches(play(2 * seed, requests, **changes), play(2 * seed + 1, 10 * requests), ALPHA / 14)
        for seed in range(60)
    ]
    assert sum(found) >= 48, sum(found)


def test_few_on_both_sides_are_bad_luck_and_many_on_one_are_not() -> None:
    candidate = Observation(ok=45, errors=5)
    assert breaches(candidate, Observation(ok=50)) == {}
    assert list(breaches(candidate, Observation(ok=5000))) == ["errors"]


def test_the_many_times_of_one_answer_are_one_observation() -> None:
    """4 slow answers of 50 are 80 slow times of 1000."""
    usual, slow = buckets(ITL, [0.01] * 20), buckets(ITL, [0.5] * 20)

    def seen(answers: int, slowly: int) -> Observation:
        itl = tuple((answers - slowly) * one + slowly * two for one, two in zip(usual, slow, strict=True))
        return Observation(ok=answers, stopped=answers, itl=itl)

    assert breaches(seen(50, 4), seen(1000, 0)) == {}
    assert list(breaches(seen(50, 15), seen(1000, 0))) == ["itl"]


def test_what_is_tolerated_passes_however_many_there_are() -> None:
    candidate = play(1, 40_000, slower=1.15, errors=0.005, cut=0.5)
    assert breaches(candidate, play(2, 40_000)) == {}


def test_one_wrong_golden_answer_is_a_breach_whatever_is_known_of_the_stable_version() -> None:
    seen = Observation(golden_asked=5, golden_passed=4)
    assert breaches(seen, None) == {"golden": "4 of 5 golden questions answered right"}
    assert breaches(replace(seen, golden_passed=5), None) == {}


def test_too_few_decide_nothing_and_say_so() -> None:
    few = Observation(ok=FEW - 10, errors=9)
    verdicts = {one.gate: one for one in judge(POLICY, few, play(1, 500), ALPHA)}
    assert {one.outcome for one in verdicts.values()} == {"undecided"}
    assert verdicts["errors"].sentence == "too few: 19, and 500 of the stable version's; 20 are needed of each"
    alone = judge(POLICY, play(1, 500), None, ALPHA)
    assert {one.outcome for one in alone if one.gate != "golden"} == {"undecided"}


def test_the_sentence_carries_the_numbers() -> None:
    stable = Observation(ok=1990, errors=10)
    said = breaches(Observation(ok=80, errors=20), stable)["errors"]
    assert said.startswith(
        "20 of 100 requests failed (20.0%), 10 of 2000 of the stable version's (0.5%); 1.0% more is tolerated"
    )


def test_times_beyond_the_last_bound_decide_nothing() -> None:
    slow = replace(Observation(), ok=100, stopped=100, ttft=buckets(TTFT, [100.0] * 100))
    (ttft,) = (one for one in judge(POLICY, slow, slow, ALPHA) if one.gate == "ttft")
    assert (ttft.outcome, ttft.sentence) == (
        "undecided", "the stable version's p95 is beyond what is measured, 80 s",
    )  # fmt: skip


# Each adds something bad to what was seen of the candidate.
WORSE: dict[str, Callable[[Observation, int], Observation]] = {
    "errors": lambda seen, n: replace(seen, errors=seen.errors + n),
    "empty": lambda seen, n: replace(seen, empty=min(seen.answers, seen.empty + n)),
    "cut": lambda seen, n: replace(seen, cut=seen.cut + n),
    "golden": lambda seen, n: replace(seen, golden_asked=seen.golden_asked + n),
    "ttft": lambda seen, n: replace(seen, ttft=(*seen.ttft[:-1], seen.ttft[-1] + n)),
}


def outcome(gate: str, verdicts: list[Verdict]) -> str:
    return next(one.outcome for one in verdicts if one.gate == gate)


@settings(max_examples=200)
@given(
    st.sampled_from(sorted(WORSE)), st.integers(20, 300), st.integers(20, 300), st.integers(0, 80), st.integers(1, 60),
    st.integers(1, 5),
)  # fmt: skip
def test_more_of_what_is_bad_never_turns_a_breach_into_a_pass(
    gate: str, requests: int, beside: int, bad: int, worse: int, seed: int
) -> None:
    stable = play(seed, beside)
    candidate = WORSE[gate](play(seed + 1, requests), bad)
    if outcome(gate, judge(POLICY, candidate, stable, ALPHA)) == "breach":
        assert outcome(gate, judge(POLICY, WORSE[gate](candidate, worse), stable, ALPHA)) == "breach"


counts = st.integers(0, 1 << 40)
observations = st.builds(
    Observation,
    *[counts] * 7,
    **{
        name: st.tuples(*[counts] * (len(histogram.bounds_s) + 1))
        for name, histogram in (("ttft", TTFT), ("itl", ITL), ("tokens", ANSWER_TOKENS))
    },
)


@given(observations, observations)
def test_a_window_is_what_came_between_two_readings(first: Observation, then: Observation) -> None:
    assert (first + then) - first == then


def test_readings_in_the_wrong_order_are_refused() -> None:
    with pytest.raises(ValueError, match="backwards"):
        Observation(ok=1) - Observation(ok=2)
    with pytest.raises(ValueError, match="other buckets"):
        Observation(ttft=(1, 2))
