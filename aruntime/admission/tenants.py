"""Who asks, and on what terms."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Tenant:
    """One tenant's terms. `index` is its place in every table; None is no limit.

    `weight` is its share of service among those who want it. Budgets: `requests_per_minute`, `tokens_per_minute`
    (prompt and output), `sequences_max` at once over all models. Shares of each replica's cache: `cache_max` is the
    most it may hold, `cache_reserved` what it can always have back. `tokens_per_s_reserved` is service that it gets
    before anybody else gets more. Tenants of one `prefix_group` share cached prefixes.
    """

    index: int
    name: str
    weight: float = 1.0
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    sequences_max: int | None = None
    cache_max: float = 1.0
    cache_reserved: float = 0.0
    tokens_per_s_reserved: float = 0.0
    prefix_group: int = 0


# Everybody, while no keys are configured; and whoever holds the admin key.
NOBODY = Tenant(0, "none")
