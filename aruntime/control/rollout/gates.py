"""The gates of a rollout: a candidate beside the stable version, over one window of observations. Pure.

    gate      of the candidate                                  breach: beyond the stable version's by more than
    errors    requests that the model or the engine failed      errors_more_max, of its requests
    ttft      p95 of the time to the first token                ttft_ratio_max, times
    itl       p95 of the time between two tokens                itl_ratio_max, times
    empty     answers without any text                          empty_more_max, of its answers
    cut       answers that their limit ended                    drift_max, of its answers
    stopped   answers that ended by themselves                  drift_max, of its answers
    lengths   how many tokens answers have                      drift_max, between the distributions
    golden    golden questions asked again, under load          nothing: one wrong answer is a breach

**Requests.** Those that ended with `ok` or `model_error` count, and of these `model_error` is the version's fault: the
model broke, or its engine died under them. What the client did (`client_closed`, 400 to 415), its budget (429), its
deadline (504) and the server's state (503) say nothing of the version and count as no request at all.

**A breach** needs two tests to agree, each at the level `alpha` divided by the seven statistical gates (Bonferroni):
 1. *It is more than is tolerated*: the exact binomial test of the candidate's count against the stable version's share
    plus the tolerance. For a p95: of the candidate's times the share that lies above ratio * the stable version's p95,
    against 5 %. Both are interpolated in their bucket.
 2. *It is no accident of the stable version's sample*, whose share is an estimate too: Fisher's exact test of the two
    counts, at equal rates. For a p95: of the counts above the last bound that leaves enough above it to tell (a
    quantile test, which is exact whatever the distribution).
The second bounds the false alarms: two versions that are alike differ so by chance with a probability below the level.
Lengths have one test for both: Kolmogorov-Smirnov of the two samples, of the distance beyond the tolerance.

**Dependence.** Times between tokens of one answer are much alike, so together they count as one observation an answer
(a design effect as large as can be). Requests are taken as independent of each other.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass
from itertools import accumulate
from operator import add, sub
from typing import Any, Literal

from aruntime.control.rollout.significance import binomial_tail, fisher_tail, smirnov_tail
from aruntime.control.settings import RolloutPolicy
from aruntime.queue.columns import ANSWER_TOKENS, ITL, TTFT

# The p95 of fewer is their largest.
FEW = 20
_QUANTILE = 0.95
_STATISTICAL = 7  # gates that divide alpha among them

_TTFT_BUCKETS, _ITL_BUCKETS, _TOKENS_BUCKETS = (len(one.bounds_s) + 1 for one in (TTFT, ITL, ANSWER_TOKENS))

Counts = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Observation:
    """What was counted of one version. Counts by bucket are in the bounds of `aruntime.queue.columns`, the last: above.

    ValueError for a negative count, and for one by other buckets.
    """

    ok: int = 0
    errors: int = 0
    stopped: int = 0
    cut: int = 0
    empty: int = 0
    golden_asked: int = 0
    golden_passed: int = 0
    ttft: Counts = (0,) * _TTFT_BUCKETS
    itl: Counts = (0,) * _ITL_BUCKETS
    tokens: Counts = (0,) * _TOKENS_BUCKETS

    def __post_init__(self) -> None:
        if (len(self.ttft), len(self.itl), len(self.tokens)) != (_TTFT_BUCKETS, _ITL_BUCKETS, _TOKENS_BUCKETS):
            raise ValueError("an observation has other buckets than these")
        if min(self.ok, self.errors, self.stopped, self.cut, self.empty, self.golden_asked, self.golden_passed) < 0 or (
            min(*self.ttft, *self.itl, *self.tokens) < 0
        ):
            raise ValueError("an observation counts backwards")

    @property
    def requests(self) -> int:
        """How many ended in a way that says something of the version."""
        return self.ok + self.errors

    @property
    def answers(self) -> int:
        """How many choices ended."""
        return self.stopped + self.cut

    def __add__(self, other: "Observation") -> "Observation":
        return self._by_field(add, other)

    def __sub__(self, earlier: "Observation") -> "Observation":
        """The window between two readings. ValueError unless this is the later one."""
        return self._by_field(sub, earlier)

    def _by_field(self, work: Callable[[int, int], int], other: "Observation") -> "Observation":
        pairs = zip(astuple(self), astuple(other), strict=True)
        values: Iterator[Any] = (
            tuple(map(work, one, two)) if isinstance(one, tuple) else work(one, two) for one, two in pairs
        )
        return Observation(*values)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a gate says; the sentence carries the numbers."""

    gate: str
    outcome: Literal["pass", "breach", "undecided"]
    sentence: str


def judge(policy: RolloutPolicy, candidate: Observation, stable: Observation | None, alpha: float) -> list[Verdict]:
    """What every gate says. `alpha` is the chance that any of them, or several, breaches between equal versions.

    `stable` is None while nothing is known of it: all gates but the golden one are undecided then.
    """
    beside, each = stable or Observation(), alpha / _STATISTICAL
    shares = [
        ("errors", "requests failed", candidate.errors, beside.errors, policy.errors_more_max),
        ("empty", "answers are empty", candidate.empty, beside.empty, policy.empty_more_max),
        ("cut", "answers were cut by their limit", candidate.cut, beside.cut, policy.drift_max),
        ("stopped", "answers ended by themselves", candidate.stopped, beside.stopped, policy.drift_max),
    ]
    verdicts = [_golden(candidate)] if policy.golden else []
    for gate, what, hits, other, more_max in shares:
        n, m = (one.requests if gate == "errors" else one.answers for one in (candidate, beside))
        verdicts.append(_share(gate, what, (hits, n), (other, m), more_max, each))
    ttft, itl = candidate.ttft, candidate.itl
    verdicts.append(_p95("ttft", TTFT.bounds_s, (ttft, sum(ttft)), (beside.ttft, sum(beside.ttft)),
                         policy.ttft_ratio_max, each))  # fmt: skip
    verdicts.append(_p95("itl", ITL.bounds_s, (itl, candidate.answers), (beside.itl, beside.answers),
                         policy.itl_ratio_max, each))  # fmt: skip
    verdicts.append(_lengths(candidate.tokens, beside.tokens, policy.drift_max, each))
    return verdicts


def _golden(seen: Observation) -> Verdict:
    said = f"{seen.golden_passed} of {seen.golden_asked} golden questions answered right"
    if seen.golden_passed < seen.golden_asked:
        return Verdict("golden", "breach", said)
    return Verdict("golden", "pass" if seen.golden_asked else "undecided", said)


def _share(
    gate: str, what: str, own: tuple[int, int], other: tuple[int, int], more_max: float, alpha: float
) -> Verdict:
    (hits, n), (other_hits, m) = own, other
    if (few := _too_few(gate, n, m)) is not None:
        return few
    rate = other_hits / m
    chance = max(binomial_tail(hits, n, min(1.0, rate + more_max)), fisher_tail(hits, n, other_hits, m))
    said = f"{hits} of {n} {what} ({hits / n:.1%}), {other_hits} of {m} of the stable version's ({rate:.1%})"
    return _verdict(gate, said, f"{more_max:.1%} more", chance, alpha)


def _p95(
    gate: str,
    bounds_s: Sequence[float],
    own: tuple[Counts, int],
    other: tuple[Counts, int],
    ratio_max: float,
    alpha: float,
) -> Verdict:
    """`own` and `other`: counts by bucket, and how many observations they are worth at most."""
    (counts, worth), (other_counts, other_worth) = own, other
    n, m = min(sum(counts), worth), min(sum(other_counts), other_worth)
    if (few := _too_few(gate, n, m)) is not None:
        return few
    p95_s = _quantile(other_counts, bounds_s)
    if p95_s is None or ratio_max * p95_s > bounds_s[-1]:
        return Verdict(gate, "undecided", f"the stable version's p95 is beyond what is measured, {bounds_s[-1]:g} s")
    above = math.floor(n * _share_above(counts, bounds_s, ratio_max * p95_s) + 1e-9)
    cut = _tail_bucket(counts, n, other_counts, m, alpha)
    hits, other_hits = math.floor(n * _tail(counts, cut)), math.ceil(m * _tail(other_counts, cut))
    chance = max(binomial_tail(above, n, 1 - _QUANTILE), fisher_tail(hits, n, other_hits, m))
    own_s = _quantile(counts, bounds_s)
    said = (
        f"p95 {'above ' if own_s is None else ''}{(own_s or bounds_s[-1]) * 1e3:.3g} ms over {n}, "
        f"the stable version's {p95_s * 1e3:.3g} ms over {m}"
    )
    return _verdict(gate, said, f"{ratio_max:g} times as much", chance, alpha)


def _lengths(counts: Counts, other_counts: Counts, distance_max: float, alpha: float) -> Verdict:
    n, m = sum(counts), sum(other_counts)
    if (few := _too_few("lengths", n, m)) is not None:
        return few
    pairs = zip(accumulate(counts), accumulate(other_counts), strict=True)
    distance = max(abs(one / n - two / m) for one, two in pairs)
    said = f"the lengths of {n} answers and of {m} of the stable version's lie {distance:.2f} apart"
    return _verdict("lengths", said, f"{distance_max:.2f}", smirnov_tail(distance - distance_max, n, m), alpha)


def _too_few(gate: str, n: int, m: int) -> Verdict | None:
    if min(n, m) >= FEW:
        return None
    return Verdict(gate, "undecided", f"too few: {n}, and {m} of the stable version's; {FEW} are needed of each")


def _verdict(gate: str, said: str, tolerated: str, chance: float, alpha: float) -> Verdict:
    if chance >= alpha:
        return Verdict(gate, "pass", f"{said}; {tolerated} is tolerated")
    odds = "less than 1 in 10^12" if chance < 1e-12 else f"1 in {1 / chance:.3g}"
    return Verdict(gate, "breach", f"{said}; {tolerated} is tolerated, and chance does so in {odds}")


def _quantile(counts: Counts, bounds_s: Sequence[float]) -> float | None:
    """The p95, interpolated in its bucket; None above the last bound."""
    rank, below, lower_s = _QUANTILE * sum(counts), 0, 0.0
    for count, upper_s in zip(counts, bounds_s, strict=False):
        if count and below + count >= rank:
            return lower_s + (upper_s - lower_s) * (rank - below) / count
        below, lower_s = below + count, upper_s
    return None


def _share_above(counts: Counts, bounds_s: Sequence[float], limit_s: float) -> float:
    """The share of what lies above `limit_s`, which is within the bounds; interpolated in its bucket."""
    above, lower_s = float(counts[-1]), 0.0
    for count, upper_s in zip(counts, bounds_s, strict=False):
        above += count * min(1.0, max(0.0, (upper_s - limit_s) / (upper_s - lower_s)))
        lower_s = upper_s
    return above / sum(counts)


def _tail(counts: Counts, first: int) -> float:
    return sum(counts[first:]) / sum(counts)


def _tail_bucket(counts: Counts, n: int, other_counts: Counts, m: int, alpha: float) -> int:
    """The last bucket from which on there are enough of both samples together.

    Enough is as many as 5 % of the candidate's, and half as many again as would, if all were the candidate's, be
    significant. It depends on the sizes and on both samples together only, so Fisher's test of the tail stays exact.
    """
    enough = max((1 - _QUANTILE) * n, 1.5 * math.log(alpha) / math.log(n / (n + m)))
    buckets = reversed(range(1, len(counts)))
    return next((i for i in buckets if n * _tail(counts, i) + m * _tail(other_counts, i) >= enough), 0)
