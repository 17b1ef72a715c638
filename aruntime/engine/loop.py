"""The engine's loop: receive -> plan -> launch -> commit -> deliver.

What it turns is a decoder's, or a tensor model's: both have a scheduler, a runner and an exchange.

On a GPU a step is planned and launched while the one before it runs, and only then is that one fetched and committed.
One thread. Between steps it looks at the control socket; with nothing to run it sleeps on its bell, the control socket
and the next deadline, and turns at least every quarter of a second so that its heartbeat tells a stall from a rest.
"""

import math
import os
import select
from collections import deque
from collections.abc import Callable

from aruntime.base import log
from aruntime.engine.parts import Exchange, Runner, Step
from aruntime.queue.columns import ENGINE_ROW, TENANT_COLUMNS, Column, TenantColumn, tenant_column
from aruntime.queue.table import Table
from aruntime.scheduler.scheduler import Scheduler
from aruntime.wire.control import Bounds, TenantTerms

HEARTBEAT_S = 0.25
# While a full output ring holds back what is to be told, look again this often. No bell rings for room in a ring.
_FULL_RETRY_S = 0.005
# A model that breaks this many steps in a row is not going to recover in this process.
_FAILED_STEPS_MAX = 3


class EngineBroken(Exception):
    """The model failed step after step; the process should end and be started anew."""


def at_once_s() -> float:
    """A step waits for nothing but the one before it."""
    return -math.inf


class Loop:
    """Turns until `stop` is set. `starts_s` says before which moment no step is planned, so that more can join it."""

    def __init__(
        self,
        scheduler: Scheduler,
        runner: Runner,
        exchange: Exchange,
        table: Table,
        bell: int,
        clock: Callable[[], float],
        starts_s: Callable[[], float] = at_once_s,
    ) -> None:
        self.exchange = exchange
        self.stop = False
        self._scheduler = scheduler
        self._runner = runner
        self._table = table
        self._bell = bell
        self._clock = clock
        self._starts_s = starts_s
        self._rests_until_s = math.inf
        self._failed = 0
        self._under_way: deque[Step | Exception] = deque()

    def run(self, control: int, on_control: Callable[[], None]) -> None:
        """Serve until `stop`. `control` is the control socket's descriptor, `on_control` reads it without waiting."""
        poller = select.poll()
        poller.register(control, select.POLLIN)
        poller.register(self._bell, select.POLLIN)
        while not self.stop:
            on_control()
            self.exchange.receive()
            busy = self._step()
            left = self.exchange.deliver()
            self._publish()
            if self._failed >= _FAILED_STEPS_MAX:
                raise EngineBroken(f"{self._failed} steps in a row failed")
            if not busy and self.exchange.prepare_sleep():
                poller.poll(self._rest_ms(_FULL_RETRY_S if left else HEARTBEAT_S))
                self._quiet_bell()

    def set_tenant(self, terms: TenantTerms) -> None:
        """Set a tenant's terms, for the next plan on."""
        self._scheduler.set_tenant(
            terms.index,
            weight=terms.weight,
            cache_max=terms.cache_max,
            cache_reserved=terms.cache_reserved,
            tokens_per_s_reserved=terms.tokens_per_s_reserved,
            prefix_group=terms.prefix_group,
        )

    def set_bounds(self, bounds: Bounds) -> None:
        """Set how many may wait and how long a step may take, for the next submit and plan on."""
        self._scheduler.set_bounds(waiting_max=bounds.waiting_max, itl_s=bounds.itl_s)

    def _step(self) -> bool:
        """Launch a step if there is one, and end those that nothing is launched ahead of. False: nothing to do."""
        now_s, starts_s = self._clock(), self._starts_s()
        self._rests_until_s = starts_s if starts_s > now_s else math.inf
        if starts_s > now_s and not self._under_way:
            return False
        plan = self._scheduler.plan(now_s)
        if plan.tokens:
            try:
                self._under_way.append(self._runner.launch(plan))
            except Exception as error:
                self._under_way.append(error)
        busy = bool(self._under_way)
        while len(self._under_way) > (self._runner.steps_ahead if plan.tokens else 0):
            self._end_step(self._under_way.popleft())
        return busy

    def _end_step(self, step: Step | Exception) -> None:
        try:
            if isinstance(step, Exception):
                raise step
            sampled = step.fetch()
        except Exception as error:
            log.error("engine.step_failed", error=type(error).__name__, detail=str(error))
            self._scheduler.fail_step()
            self._failed += 1
        else:
            for owner, vector in sampled.vectors:
                self.exchange.answer(owner, vector)
            self._scheduler.commit(sampled.tokens, self._clock(), sampled.logprobs, sampled.likely, sampled.scored)
            self._failed = 0

    def _rest_ms(self, most_s: float) -> float:
        until_s = min(self._rests_until_s, self._scheduler.next_deadline_s()) - self._clock()
        return math.ceil(1000 * min(most_s, max(0.0, until_s)))

    def _quiet_bell(self) -> None:
        self.exchange.awake()
        try:
            os.eventfd_read(self._bell)
        except BlockingIOError:
            return

    def _publish(self) -> None:
        stats = self._scheduler.stats()
        for column, value in (
            (Column.HEARTBEAT_US, int(self._clock() * 1e6)),
            (Column.STEPS, stats.steps),
            (Column.WAITING, stats.waiting),
            (Column.RUNNING, stats.running),
            (Column.WAITING_TOKENS, stats.waiting_tokens),
            (Column.BLOCKS_FREE, stats.blocks_free),
            (Column.BLOCKS, stats.blocks_total),
            (Column.PREEMPTIONS, stats.preemptions),
            (Column.PROMPT_TOKENS, stats.prompt_tokens),
            (Column.OUTPUT_TOKENS, stats.output_tokens),
            (Column.REFUSED, self.exchange.refused),
            (Column.BLOCKS_CACHED, stats.blocks_cached),
            (Column.BLOCKS_RESERVED, stats.blocks_reserved),
            (Column.CACHED_TOKENS, stats.cached_tokens),
            (Column.OLDEST_US, int(stats.oldest_s * 1e6)),
            (Column.STEP_US, int(stats.step_s * 1e6)),
            (Column.PREFILL_TOKENS_PER_S, int(stats.prefill_tokens_per_s)),
            (Column.TAKE_UP_US, int(stats.take_up_s * 1e6)),
            (Column.WAITING_WEIGHT, int(stats.waiting_weight * 1e3)),
            (Column.DRAIN_US, int(stats.drain_s * 1e6)),
            (Column.PAUSED, stats.paused),
            (Column.TOKENS_LEFT, stats.tokens_left),
        ):
            self._table.set(ENGINE_ROW, column, value)
        first = tenant_column(0, TenantColumn.WAITING)
        self._scheduler.publish_tenants(self._table, ENGINE_ROW, first, TENANT_COLUMNS)
