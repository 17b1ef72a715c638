"""What happened to a request, counted in the replica's shared table, in the row of this front end."""

from collections.abc import Callable

from starlette.requests import Request

from aruntime.admission.route import Route
from aruntime.queue.columns import E2E, ITL, RESULT_CODES, TTFT, Column


class Meter:
    """Counts one request, once, from now on also the error that is its answer. Times are of `clock`."""

    def __init__(self, route: Route, request: Request, clock: Callable[[], float]) -> None:
        self._route = route
        self._arrived_s: float = request.scope["state"]["arrived_s"]
        self._clock = clock
        self._last_s: dict[int, float] = {}
        self._ended = False
        request.scope["state"]["count"] = self.end

    def output(self, choice: int) -> None:
        """Tokens of `choice` have come."""
        now_s = self._clock()
        if not self._last_s:
            TTFT.observe(self._route.table, self._route.row, now_s - self._arrived_s)
        elif choice in self._last_s:
            ITL.observe(self._route.table, self._route.row, now_s - self._last_s[choice])
        self._last_s[choice] = now_s

    def end(self, code: str) -> None:
        """The request ended: "ok", "client_closed" or an error's code. The first end counts; only answers are timed."""
        if self._ended:
            return
        self._ended = True
        self._route.table.add(self._route.row, Column.RESULTS + RESULT_CODES.index(code), 1)
        if code == "ok":
            E2E.observe(self._route.table, self._route.row, self._clock() - self._arrived_s)
