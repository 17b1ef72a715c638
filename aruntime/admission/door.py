"""Says yes or no to a request at once, from what the shared table counts, and pumps outputs to tickets.

A full queue is an answer (503 with an honest `Retry-After`), never a wait. The engine's own bounds have the last word:
two front ends that both see one free place are both let in here, and the later one is answered by the engine.
"""

import asyncio
import contextlib
import os
import random
from collections.abc import Callable

from aruntime.admission.ask import Ask
from aruntime.admission.route import Route
from aruntime.admission.ticket import Ticket
from aruntime.base.errors import DeadlineExceeded, Draining, Overloaded, ServingError
from aruntime.queue.columns import Column

# While a full submit ring holds up a cancel, look again this often. No bell rings for room in a ring.
_CANCEL_RETRY_S = 0.005
_RETRY_AFTER_MAX_S = 60.0


class Door:
    """One front end's admission. `bell` is the eventfd that engines ring for it."""

    def __init__(self, bell: int, clock: Callable[[], float], seeds: random.Random) -> None:
        self.draining = False
        self._bell = bell
        self._clock = clock
        self._seeds = seeds
        self._routes: dict[int, Route] = {}
        self._pace: dict[int, _Pace] = {}
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
        self._pace[route.replica] = _Pace()
        self._pump()

    def detach(self, replica: int, error: ServingError) -> None:
        """A replica is gone: its requests end with `error`."""
        route = self._routes.pop(replica, None)
        self._pace.pop(replica, None)
        if route is not None:
            route.close(error)

    @property
    def sequences_in_flight(self) -> int:
        """Sequences of this front end that have not ended."""
        return sum(route.in_flight_here for route in self._routes.values())

    def admit(self, route: Route, ask: Ask) -> Ticket:
        """Let `ask` in, or say why not: Draining, InvalidRequest, DeadlineExceeded, Overloaded. Waits for nothing."""
        now_s = self._clock()
        if self.draining:
            raise Draining("the server is shutting down", retry_after_s=1.0)
        route.check_size(ask)
        if ask.deadline_s <= now_s:
            raise DeadlineExceeded("the deadline passed before the request was admitted")
        ended = route.table.sum(Column.ENDED)
        self._pace[route.replica].note(now_s, ended)
        in_flight = route.in_flight
        if in_flight + ask.choices > route.limits.in_flight_max:
            raise Overloaded(
                f"{in_flight} sequences are in flight; at most {route.limits.in_flight_max} may be",
                retry_after_s=self._pace[route.replica].until(ask.choices),
            )
        seed = ask.sampling.seed if ask.sampling.seed is not None else self._seeds.getrandbits(63)
        ticket = route.submit(ask, seed)
        if ask.deadline_s != float("inf"):
            ticket.expire_at(ask.deadline_s, ask.deadline_s - ask.arrived_s)
        return ticket

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
            route.pump()
            if not route.prepare_sleep() and self._loop is not None:
                self._loop.call_soon(self._pump)

    def _pump_soon(self) -> None:
        if self._retry is None and self._loop is not None:
            self._retry = self._loop.call_later(_CANCEL_RETRY_S, self._pump)


class _Pace:
    """How fast a replica ends sequences, from counts seen at admission, to say when to come again."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._ended = 0
        self._per_s = 0.0

    def note(self, now_s: float, ended: int) -> None:
        """Take a look at the count; the pace is kept over windows of a second or more."""
        if self._since_s is None:
            self._since_s, self._ended = now_s, ended
        elif now_s - self._since_s >= 1.0:
            self._per_s = (ended - self._ended) / (now_s - self._since_s)
            self._since_s, self._ended = now_s, ended

    def until(self, sequences: int) -> float:
        """Seconds until `sequences` more have ended at the present pace, 1 to 60."""
        return min(_RETRY_AFTER_MAX_S, max(1.0, sequences / self._per_s)) if self._per_s > 0 else 1.0
