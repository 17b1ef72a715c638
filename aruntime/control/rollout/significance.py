"""The tests of significance that a rollout's gates need: counts in, a probability out.

Each gives the probability of what was seen, or of something further out, if nothing but chance were at work. A sum of a
tail starts beyond the mean, where terms only fall, so it ends as soon as they no longer count.
"""

import math

_NEGLIGIBLE = 1e-12


def binomial_tail(hits: int, n: int, rate: float) -> float:
    """P(X >= hits) for X ~ Bin(n, rate): the exact one-sided binomial test. 1 when there are no more than expected."""
    if hits <= n * rate:
        return 1.0
    if rate <= 0:
        return 0.0
    odds = rate / (1 - rate)
    term = math.exp(_log_choose(n, hits) + hits * math.log(rate) + (n - hits) * math.log1p(-rate))
    total = term
    for k in range(hits, n):
        term *= (n - k) / (k + 1) * odds
        total += term
        if term < total * _NEGLIGIBLE:
            break
    return min(1.0, total)


def fisher_tail(hits: int, n: int, other_hits: int, other_n: int) -> float:
    """Fisher's exact test, one-sided: as many hits of all on this side, if both sides had the same rate.

    1 when this side's share is no greater than the other's. Holds for any sizes and any rate.
    """
    all_hits, misses = hits + other_hits, n + other_n - hits - other_hits
    if hits * (n + other_n) <= n * all_hits:
        return 1.0
    term = math.exp(_log_choose(all_hits, hits) + _log_choose(misses, n - hits) - _log_choose(all_hits + misses, n))
    total = term
    for k in range(hits, min(n, all_hits)):
        term *= (all_hits - k) / (k + 1) * (n - k) / (misses - n + k + 1)
        total += term
        if term < total * _NEGLIGIBLE:
            break
    return min(1.0, total)


def smirnov_tail(distance: float, n: int, other_n: int) -> float:
    """P(D >= distance) of the two-sample Kolmogorov-Smirnov test, by the limiting distribution.

    Values that are only known by bucket make it err to the large side: a distance within a bucket is not seen.
    """
    scaled = distance * math.sqrt(n * other_n / (n + other_n))
    if scaled < 0.3:  # the series is 1 there, to more places than matter, and converges slowly
        return 1.0
    terms = (math.copysign(2, k % 2 - 0.5) * math.exp(-2 * k * k * scaled * scaled) for k in range(1, 20))
    return max(0.0, min(1.0, sum(terms)))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
