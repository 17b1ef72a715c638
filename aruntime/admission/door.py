"""Says yes or no to a request at once, from what the shared tables count, and pumps outputs to tickets.

    draining? 503 ─► could it ever be served? 400 ─► room, and in time? 503, 504 ─► within the budgets? 429 ─► a ticket

A no costs nothing and says when to come again. Whatever is taken at the door is given back by the ticket's end, once.
"""

import asyncio
import contextlib
import math
import os
import random
from collections.abc import Callable, Sequence

from aruntime.admission.ask import Ask
from aruntime.admission.budgets import charge, check_budget, private_ledger
from aruntime.admission.gate import Verdict
from aruntime.admission.refusals import refusal
from aruntime.admission.route import Route
from aruntime.admission.tenants import NOBODY, Tenant
from aruntime.admission.ticket import Ticket
from aruntime.base.errors import Draining, ServingError

# While a full submit ring holds up a word to the engine, look again this often. No bell rings for room in a ring.
_OWED_RETRY_S = 0.005


class Door:
    """One front end's admission. `bell` is the eventfd that engines ring for it.

    `ledger` holds the budgets, its own until the supervisor hands over the server's. `tenants` are NOBODY and whoever
    else is known.
    """

    def __init__(self, bell: int, clock: Callable[[], float], seeds: random.Random) -> None:
        self.draining = False
        self.ledger = private_ledger()
        self.tenants: Sequence[Tenant] = (NOBODY,)
        self._bell = bell
        self._clock = clock
        self._seeds = seeds
        self._routes: dict[int, Route] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._retry: asyncio.TimerHandle | None = None

    def open(self) -> None:
        """Let requests in, and listen to the bell in the running event loop."""
        self.draining = False
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._bell, self._on_bell)

    def close(self) -> None:
        """Stop listening; every request in flight ends with an error."""
        if self._loop is not None:
            self._loop.remove_reader(self._bell)
            self._loop = None
        for replica in list(self._routes):
            self.detach(replica, Draining("the server stopped before the answer was complete", retry_after_s=1.0))

    def attach(self, route: Route) -> None:
        """A replica became reachable."""
        route.on_owed = self._pump_soon
        self._routes[route.replica] = route
        self._pump()

    def detach(self, replica: int, error: ServingError) -> None:
        """A replica is gone: its requests end with `error`."""
        route = self._routes.pop(replica, None)
        if route is not None:
            route.close(error)

    @property
    def sequences_in_flight(self) -> int:
        """Sequences of this front end that have not ended."""
        return sum(route.in_flight_here for route in self._routes.values())

    def glance(self, route: Route, ask: Ask) -> None:
        """Say no to `ask`, the least that a request can turn out to be, before its text is read; else say nothing.

        Draining; DeadlineExceeded: out of reach; Overloaded.
        """
        self._judge(route, ask, self._clock())

    def admit(self, route: Route, ask: Ask) -> Ticket:
        """Let `ask` in, or say why not, and wait for nothing.

        Draining; InvalidRequest: no wait would help; DeadlineExceeded: out of reach; Overloaded; RateLimitExceeded.
        """
        now_s = self._clock()
        route.check_size(ask, self._shared)
        if not ask.mirrored:
            check_budget(ask)
        verdict = self._judge(route, ask, now_s)
        settle = charge(self.ledger, ask, now_s)
        seed = ask.sampling.seed if ask.sampling.seed is not None else self._seeds.getrandbits(63)
        try:
            ticket = route.submit(ask, seed, settle, verdict, now_s)
        except ServingError as error:
            settle(0, error)
            raise
        if ask.deadline_s != math.inf:
            ticket.expire_at(ask.deadline_s, ask.deadline_s - ask.arrived_s)
        return ticket

    @property
    def _shared(self) -> bool:
        """Whether more tenants than one are known; one is NOBODY."""
        return len(self.tenants) > 2

    def _judge(self, route: Route, ask: Ask, now_s: float) -> Verdict:
        """The verdict on `ask`, which is yes; else its error."""
        if self.draining:
            raise Draining("the server is shutting down", retry_after_s=1.0)
        verdict = route.judge(ask, now_s, self._shared)
        if verdict.refusal:
            raise refusal(verdict, ask, ask.deadline_s - now_s, route.limits.ttft_s)
        return verdict

    def _on_bell(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_read(self._bell)
        self._pump()

    def _pump(self) -> None:
        """Empty the output rings, then ask for the bell; outputs that came meanwhile get a turn of the loop."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
        for route in self._routes.values():
            route.pump(self._clock())
            if not route.prepare_sleep() and self._loop is not None:
                self._loop.call_soon(self._pump)

    def _pump_soon(self) -> None:
        if self._retry is None and self._loop is not None:
            self._retry = self._loop.call_later(_OWED_RETRY_S, self._pump)
