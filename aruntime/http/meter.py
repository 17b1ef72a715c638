"""What happened to a request, counted in the replica's shared table, in the row of this front end."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from aruntime.admission.route import Route
from aruntime.base.errors import ServingError
from aruntime.queue.columns import E2E, ITL, RESULT_CODES, TTFT, Column


class Meter:
    """Counts one request. Times are of `clock`."""

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
