"""What happened to requests, counted in the replica's shared table, and all of it as Prometheus metrics.

Every front end adds to its own row; whichever front end answers /metrics sums the rows, so the figures are the server's
and not one process's. Labels are names of the repository: there are never more of them than models.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import Collector

from aruntime.admission.route import Route
from aruntime.base.errors import ServingError
from aruntime.control.view import View
from aruntime.queue.columns import E2E, ENGINE_ROW, ITL, RESULT_CODES, TTFT, Column, Histogram

_GAUGES = {
    "aruntime_sequences_waiting": ("Sequences that wait for a first step", Column.WAITING),
    "aruntime_sequences_running": ("Sequences in prefill or decode", Column.RUNNING),
    "aruntime_waiting_tokens": ("Tokens of the waiting sequences", Column.WAITING_TOKENS),
    "aruntime_blocks_free": ("Cache blocks that nobody uses", Column.BLOCKS_FREE),
    "aruntime_blocks": ("Cache blocks", Column.BLOCKS),
}
_COUNTERS = {
    "aruntime_steps": ("Engine steps", Column.STEPS),
    "aruntime_preemptions": ("Sequences sent back to wait for want of blocks", Column.PREEMPTIONS),
    "aruntime_prompt_tokens": ("Prompt tokens computed", Column.PROMPT_TOKENS),
    "aruntime_output_tokens": ("Tokens generated", Column.OUTPUT_TOKENS),
    "aruntime_refused_messages": ("Malformed messages found in shared memory", Column.REFUSED),
}
_HISTOGRAMS = {
    "aruntime_time_to_first_token_seconds": ("From arrival to the first token", TTFT),
    "aruntime_inter_token_seconds": ("Between outputs of one choice", ITL),
    "aruntime_request_seconds": ("From arrival to the end", E2E),
}


class Meter:
    """Counts one request, in the row of this front end. Times are of `clock`."""

    def __init__(self, route: Route, arrived_s: float, clock: Callable[[], float]) -> None:
        self._route = route
        self._arrived_s = arrived_s
        self._clock = clock
        self._last_s: dict[int, float] = {}

    @contextmanager
    def refusals(self) -> Iterator["Meter"]:
        """Counts the error that leaves the block; a request that gets through is counted at its end."""
        try:
            yield self
        except ServingError as error:
            self.end(error.code)
            raise

    def output(self, choice: int) -> None:
        """Tokens of `choice` have come."""
        now_s = self._clock()
        if not self._last_s:
            TTFT.observe(self._route.table, self._route.row, now_s - self._arrived_s)
        elif choice in self._last_s:
            ITL.observe(self._route.table, self._route.row, now_s - self._last_s[choice])
        self._last_s[choice] = now_s

    def end(self, code: str) -> None:
        """The request ended: "ok", "client_closed" or an error's code. Only answers are timed."""
        self._route.table.add(self._route.row, Column.RESULTS + RESULT_CODES.index(code), 1)
        if code == "ok":
            E2E.observe(self._route.table, self._route.row, self._clock() - self._arrived_s)


class ViewCollector(Collector):
    """Reads the shared tables at the moment of the scrape."""

    def __init__(self, view: View) -> None:
        self._view = view

    def collect(self) -> Iterable[Metric]:
        replicas = [(list(labels.values()), table) for labels, table in self._view.replica_tables()]
        names = ["model", "version", "replica"]
        for name, (text, column) in _GAUGES.items():
            gauge = GaugeMetricFamily(name, text, labels=names)
            for labels, table in replicas:
                gauge.add_metric(labels, table.get(ENGINE_ROW, column))
            yield gauge
        for name, (text, column) in _COUNTERS.items():
            counter = CounterMetricFamily(name, text, labels=names)
            for labels, table in replicas:
                counter.add_metric(labels, table.get(ENGINE_ROW, column))
            yield counter
        in_flight = GaugeMetricFamily("aruntime_sequences_in_flight", "Sequences admitted and not ended", labels=names)
        requests = CounterMetricFamily("aruntime_requests", "Requests ended, by how", labels=[*names, "code"])
        for labels, table in replicas:
            in_flight.add_metric(labels, table.sum(Column.IN_FLIGHT))
            for i, code in enumerate(RESULT_CODES):
                requests.add_metric([*labels, code], table.sum(Column.RESULTS + i))
        yield in_flight
        yield requests
        for name, (text, histogram) in _HISTOGRAMS.items():
            family = HistogramMetricFamily(name, text, labels=names)
            for labels, table in replicas:
                counts, total_s = histogram.totals(table)
                family.add_metric(labels, list(zip(_bounds(histogram), counts, strict=True)), total_s)
            yield family


def _bounds(histogram: Histogram) -> list[str]:
    return [*map(str, histogram.bounds_s), "+Inf"]


def render(view: View) -> bytes:
    """The text that Prometheus scrapes."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ViewCollector(view))
    return generate_latest(registry)
