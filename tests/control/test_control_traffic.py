"""Who goes to the candidate: evenly, for as long as the rollout lasts, and more as the share grows."""

import math
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from aruntime.control.rollout.traffic import goes_to_candidate, is_mirrored

salts = st.integers(0, 2**63 - 1)
shares = st.floats(0, 1)
names = st.text(st.characters(exclude_characters="\0", codec="utf-8"), max_size=64)


@given(salts, names, names, shares, shares)
def test_who_is_in_stays_in_while_the_share_grows(salt: int, tenant: str, session: str, one: float, two: float) -> None:
    small, large = sorted((one, two))
    if goes_to_candidate(salt, tenant, session, small):
        assert goes_to_candidate(salt, tenant, session, large)
    if is_mirrored(salt, tenant, session, small):
        assert is_mirrored(salt, tenant, session, large)


@given(salts, names, names)
def test_nobody_goes_at_nothing_and_everybody_at_all(salt: int, tenant: str, session: str) -> None:
    assert not goes_to_candidate(salt, tenant, session, 0.0)
    assert goes_to_candidate(salt, tenant, session, 1.0)


def chi_square(counts: list[int]) -> float:
    expected = sum(counts) / len(counts)
    return sum((count - expected) ** 2 / expected for count in counts)


def test_sessions_spread_evenly_over_the_shares() -> None:
    cells, sessions = 20, 20_000
    for salt in (0, 1, 2**62):
        upto = [
            sum(goes_to_candidate(salt, "acme", f"s-{i}", cell / cells) for i in range(sessions)) for cell in range(21)
        ]
        counts = [later - earlier for earlier, later in pairwise(upto)]
        # 19 degrees of freedom: 43.8 is exceeded by chance once in 1000.
        assert chi_square(counts) < 43.8, counts


def test_tenants_rollouts_and_the_mirror_draw_apart() -> None:
    """Of two draws at a half, the four combinations are equally frequent: 3 degrees of freedom, 16.3 once in 1000."""
    n = 4000
    first = [goes_to_candidate(7, "acme", str(i), 0.5) for i in range(n)]
    others = [
        [goes_to_candidate(7, "other", str(i), 0.5) for i in range(n)],
        [goes_to_candidate(8, "acme", str(i), 0.5) for i in range(n)],
        [is_mirrored(7, "acme", str(i), 0.5) for i in range(n)],
    ]
    for other in others:
        pairs = [2 * a + b for a, b in zip(first, other, strict=True)]
        assert chi_square([pairs.count(pair) for pair in range(4)]) < 16.3


def test_a_tenant_and_a_session_are_not_run_together() -> None:
    draws = {
        next(share for share in (k / 1024 for k in range(1025)) if goes_to_candidate(1, tenant, session, share))
        for tenant, session in (("ab", "c"), ("a", "bc"), ("abc", ""))
    }
    assert len(draws) == 3
    assert not any(math.isclose(draw, 1.0) for draw in draws)
