"""The shared tables as Prometheus metrics; docs/metrics.md explains them, and a test holds the two together.

Every front end adds to its own row; whichever answers /metrics sums the rows, so the figures are the server's and not
one process's. Labels are names of the repository and of configured tenants: there are never more of them than of those.
"""

from collections.abc import Callable, Iterable
from itertools import product

from prometheus_client import CollectorRegistry
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from aruntime.admission.ledger import REQUESTS, TOKENS
from aruntime.admission.route import Route
from aruntime.control.view import View
from aruntime.queue.columns import (
    ANSWER_TOKENS,
    E2E,
    ENGINE_ROW,
    ITL,
    RESULT_CODES,
    TTFT,
    Column,
    Histogram,
    TenantColumn,
    tenant_column,
)
from aruntime.queue.records import Priority
from aruntime.queue.table import Table

_Read = Callable[[Table], float]


def _engine(column: int, unit: float = 1.0) -> _Read:
    return lambda table: table.get(ENGINE_ROW, column) * unit


def _front_ends(column: int) -> _Read:
    return lambda table: table.sum(column)


def _ratio(part: _Read, whole: _Read) -> _Read:
    return lambda table: part(table) / whole(table) if whole(table) else 0.0


def _blocks_used(table: Table) -> float:
    return table.get(ENGINE_ROW, Column.BLOCKS) - table.get(ENGINE_ROW, Column.BLOCKS_FREE)


_GAUGES: dict[str, tuple[str, _Read]] = {
    "aruntime_sequences_waiting": ("Sequences that wait for a first step", _engine(Column.WAITING)),
    "aruntime_sequences_running": ("Sequences in prefill or decode", _engine(Column.RUNNING)),
    "aruntime_sequences_paused": ("Sequences whose client reads too slowly", _engine(Column.PAUSED)),
    "aruntime_waiting_tokens": ("Tokens of the waiting sequences", _engine(Column.WAITING_TOKENS)),
    "aruntime_sequences_in_flight": ("Sequences admitted and not ended", _front_ends(Column.IN_FLIGHT)),
    "aruntime_sequences_queued": ("Sequences in flight without a token yet", _front_ends(Column.QUEUED)),
    "aruntime_queued_tokens": ("Prompt tokens of the queued sequences", _front_ends(Column.QUEUED_TOKENS)),
    "aruntime_tokens_left": ("Tokens that all in flight may still generate", _engine(Column.TOKENS_LEFT)),
    "aruntime_drain_seconds": ("Until all has ended, if nothing more came", _engine(Column.DRAIN_US, 1e-6)),
    "aruntime_step_seconds": ("How long a step takes now", _engine(Column.STEP_US, 1e-6)),
    "aruntime_prefill_tokens_per_second": ("Prefilled beside the decodes", _engine(Column.PREFILL_TOKENS_PER_S)),
    "aruntime_blocks": ("Cache blocks", _engine(Column.BLOCKS)),
    "aruntime_blocks_free": ("Cache blocks that nobody uses", _engine(Column.BLOCKS_FREE)),
    "aruntime_blocks_used": ("Cache blocks that sequences use", _blocks_used),
    "aruntime_blocks_cached": ("Free cache blocks with a prefix to use again", _engine(Column.BLOCKS_CACHED)),
    "aruntime_blocks_reserved": ("Cache blocks guaranteed to tenants", _engine(Column.BLOCKS_RESERVED)),
    "aruntime_cache_utilization": ("Used of all cache blocks, 0 to 1", _ratio(_blocks_used, _engine(Column.BLOCKS))),
    "aruntime_cache_hit_ratio": (
        "Cached of all prompt tokens since the start, 0 to 1",
        _ratio(_engine(Column.CACHED_TOKENS), _engine(Column.PROMPT_TOKENS)),
    ),
}
_COUNTERS: dict[str, tuple[str, _Read]] = {
    "aruntime_steps": ("Engine steps", _engine(Column.STEPS)),
    "aruntime_preemptions": ("Sequences sent back to wait for want of blocks", _engine(Column.PREEMPTIONS)),
    "aruntime_prompt_tokens": ("Prompt tokens, cached ones included", _engine(Column.PROMPT_TOKENS)),
    "aruntime_cached_tokens": ("Prompt tokens that the cache gave", _engine(Column.CACHED_TOKENS)),
    "aruntime_output_tokens": ("Tokens generated", _engine(Column.OUTPUT_TOKENS)),
    "aruntime_answers_empty": ("Choices that ended without any text", _front_ends(Column.ANSWERS_EMPTY)),
    "aruntime_refused_messages": ("Malformed messages found in shared memory", _engine(Column.REFUSED)),
}
_HISTOGRAMS = {
    "aruntime_time_to_first_token_seconds": ("From arrival to the first token", TTFT),
    "aruntime_inter_token_seconds": ("Between outputs of one choice", ITL),
    "aruntime_request_seconds": ("From arrival to the end", E2E),
    "aruntime_answer_tokens": ("Tokens of a choice that ended", ANSWER_TOKENS),
}
_FINISH_REASONS = {"stop": Column.ANSWERS_STOP, "length": Column.ANSWERS_LENGTH}
_TENANT_GAUGES = {
    "aruntime_tenant_sequences_in_flight": ("Its sequences admitted and not ended", TenantColumn.IN_FLIGHT),
    "aruntime_tenant_sequences_waiting": ("Its sequences that wait for a first step", TenantColumn.WAITING),
    "aruntime_tenant_sequences_running": ("Its sequences in prefill or decode", TenantColumn.RUNNING),
    "aruntime_tenant_blocks": ("Cache blocks that its sequences use", TenantColumn.BLOCKS),
}
_CLASS_GAUGES = {
    "aruntime_tenant_sequences_queued": ("Its sequences in flight without a token yet", TenantColumn.QUEUED),
    "aruntime_tenant_queued_tokens": ("Prompt tokens of its queued sequences", TenantColumn.QUEUED_TOKENS),
}
_REPLICA = ["model", "version", "replica"]


class ViewCollector(Collector):
    """Reads the shared tables at the moment of the scrape."""

    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterable[Metric]:
        routes = [(list(labels.values()), route) for labels, route in self._view.routes()]
        yield from _by_replica(routes)
        yield self._oldest(routes)
        yield _cache_config(routes)
        yield self._refusals()
        yield from self._versions()
        yield from self._by_tenant(routes)
        yield from self._shares(routes)
        yield from self._budgets()

    def _oldest(self, routes: list[tuple[list[str], Route]]) -> Metric:
        text = "Age of the sequence that has waited longest"
        family = GaugeMetricFamily("aruntime_oldest_waiting_seconds", text, labels=_REPLICA)
        for labels, route in routes:
            arrived_us = route.table.get(ENGINE_ROW, Column.OLDEST_US)
            family.add_metric(labels, max(0.0, self._view.now_s - arrived_us / 1e6) if arrived_us else 0.0)
        return family

    def _refusals(self) -> Metric:
        text = "Requests refused before their model was known, by how"
        family = CounterMetricFamily("aruntime_refusals", text, labels=["code"])
        for code in RESULT_CODES:
            family.add_metric([code], self._view.door.ledger.refusals(code))
        return family

    def _versions(self) -> Iterable[Metric]:
        version = ["model", "version"]
        state = GaugeMetricFamily("aruntime_version_state", "1: this is where it is", labels=[*version, "state"])
        memory = GaugeMetricFamily("aruntime_version_memory_bytes", "Memory set aside for it", labels=version)
        share = GaugeMetricFamily("aruntime_rollout_share", "Of the requests without a version, 0 to 1", labels=version)
        mirror = GaugeMetricFamily("aruntime_rollout_mirror", "Of them copied to it, 0 to 1", labels=version)
        for model in self._view.states():
            for entry in model.versions:
                labels = [model.model, str(entry.version)]
                state.add_metric([*labels, entry.state], 1)
                memory.add_metric(labels, entry.bytes)
            if (split := model.split) is not None:
                share.add_metric([model.model, str(split.version)], split.share)
                mirror.add_metric([model.model, str(split.version)], split.mirror)
        held = GaugeMetricFamily("aruntime_requests_held", "Requests of this front end that wait for a load")
        held.add_metric([], self._view.held)
        yield from (state, memory, share, mirror, held)

    def _shares(self, routes: list[tuple[list[str], Route]]) -> Iterable[Metric]:
        labels = [*_REPLICA, "tenant"]
        most = GaugeMetricFamily("aruntime_tenant_blocks_max", "The most cache blocks that it may hold", labels=labels)
        reserved = GaugeMetricFamily("aruntime_tenant_blocks_reserved", "Cache blocks guaranteed to it", labels=labels)
        for (replica, route), tenant in product(routes, self._view.tenants):
            most.add_metric([*replica, tenant.name], route.limits.blocks_max(tenant))
            reserved.add_metric([*replica, tenant.name], int(route.limits.blocks * tenant.cache_reserved))
        yield most
        yield reserved

    def _by_tenant(self, routes: list[tuple[list[str], Route]]) -> Iterable[Metric]:
        cells = [
            ([*labels, one.name], route.table, one.index) for labels, route in routes for one in self._view.tenants
        ]
        for name, (text, column) in _TENANT_GAUGES.items():
            family = GaugeMetricFamily(name, text, labels=[*_REPLICA, "tenant"])
            for labels, table, tenant in cells:
                family.add_metric(labels, table.sum(tenant_column(tenant, column)))
            yield family
        for name, (text, column) in _CLASS_GAUGES.items():
            family = GaugeMetricFamily(name, text, labels=[*_REPLICA, "tenant", "priority"])
            for (labels, table, tenant), priority in product(cells, Priority):
                amount = table.sum(tenant_column(tenant, column, priority))
                family.add_metric([*labels, priority.name.lower()], amount)
            yield family
        text = "Tokens computed for it, of prompts and outputs"
        served = CounterMetricFamily("aruntime_tenant_served_tokens", text, labels=[*_REPLICA, "tenant"])
        for labels, table, tenant in cells:
            served.add_metric(labels, table.sum(tenant_column(tenant, TenantColumn.SERVED)))
        yield served

    def _budgets(self) -> Iterable[Metric]:
        ledger, now_s = self._view.door.ledger, self._view.now_s
        held = GaugeMetricFamily(
            "aruntime_tenant_sequences", "Its sequences in flight, over all models", labels=["tenant"]
        )
        level = GaugeMetricFamily(
            "aruntime_budget_level", "What is left of a minute's budget, 0 to 1", labels=["tenant", "budget"]
        )
        for tenant in self._view.tenants:
            held.add_metric([tenant.name], ledger.held(tenant.index))
            if tenant.requests_per_minute is not None:
                level.add_metric([tenant.name, "requests"], ledger.level(tenant.index, REQUESTS, now_s))
            if tenant.tokens_per_minute is not None:
                level.add_metric([tenant.name, "tokens"], ledger.level(tenant.index, TOKENS, now_s))
        yield held
        yield level


def _by_replica(routes: list[tuple[list[str], Route]]) -> Iterable[Metric]:
    for kind, families in ((GaugeMetricFamily, _GAUGES), (CounterMetricFamily, _COUNTERS)):
        for name, (text, read) in families.items():
            family = kind(name, text, labels=_REPLICA)
            for labels, route in routes:
                family.add_metric(labels, read(route.table))
            yield family
    requests = CounterMetricFamily("aruntime_requests", "Requests ended, by how", labels=[*_REPLICA, "code"])
    for labels, route in routes:
        for i, code in enumerate(RESULT_CODES):
            requests.add_metric([*labels, code], route.table.sum(Column.RESULTS + i))
    yield requests
    answers = CounterMetricFamily("aruntime_answers", "Choices ended, by how", labels=[*_REPLICA, "finish_reason"])
    for labels, route in routes:
        for reason, column in _FINISH_REASONS.items():
            answers.add_metric([*labels, reason], route.table.sum(column))
    yield answers
    for name, (text, histogram) in _HISTOGRAMS.items():
        buckets = HistogramMetricFamily(name, text, labels=_REPLICA)
        for labels, route in routes:
            counts, total = histogram.totals(route.table)
            buckets.add_metric(labels, list(zip(_bounds(histogram), counts, strict=True)), total)
        yield buckets


def _cache_config(routes: list[tuple[list[str], Route]]) -> Metric:
    """The labels that a gateway's endpoint picker reads, by vLLM's names."""
    family = InfoMetricFamily("aruntime_cache_config", "Size and number of cache blocks", labels=_REPLICA)
    for labels, route in routes:
        sizes = {"block_size": str(route.limits.block_tokens), "num_gpu_blocks": str(route.limits.blocks)}
        family.add_metric(labels, sizes)
    return family


def _bounds(histogram: Histogram) -> list[str]:
    return [*map(str, histogram.bounds_s), "+Inf"]


def render(view: View) -> bytes:
    """The text that Prometheus scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ViewCollector(view))
    return generate_latest(registry)
