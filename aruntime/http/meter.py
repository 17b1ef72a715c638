"""What happened to a request, counted in the replica's shared table, in the row of this front end."""

from collections.abc import Callable

from starlette.requests import Request

from aruntime.admission.route import Route
from aruntime.queue.columns import ANSWER_TOKENS, E2E, ITL, RESULT_CODES, TTFT, Column


class Count:
    """Counts one request, once, that arrived at `arrived_s`. Times are of `clock`.

    Nobody need have asked it: a copy that is mirrored to another version is counted like any request to that version.
    """

    def __init__(self, route: Route, arrived_s: float, clock: Callable[[], float]) -> None:
        self._table, self._row = route.table, route.row
        self._arrived_s = arrived_s
        self._clock = clock
        self._last_s: dict[int, float] = {}
        self._spoke: set[int] = set()
        self._ended = False

    def output(self, choice: int, spoke: bool = False) -> None:
        """Tokens of `choice` have come, and said something or nothing yet."""
        now_s = self._clock()
        if not self._last_s:
            TTFT.observe(self._table, self._row, now_s - self._arrived_s)
        elif choice in self._last_s:
            ITL.observe(self._table, self._row, now_s - self._last_s[choice])
        self._last_s[choice] = now_s
        if spoke:
            self._spoke.add(choice)

    def answer(self, choice: int, tokens: int, finish_reason: str) -> None:
        """`choice` has ended, by itself ("stop") or by its limit ("length"), after so many tokens."""
        ended = Column.ANSWERS_LENGTH if finish_reason == "length" else Column.ANSWERS_STOP
        self._table.add(self._row, ended, 1)
        if choice not in self._spoke:
            self._table.add(self._row, Column.ANSWERS_EMPTY, 1)
        ANSWER_TOKENS.observe(self._table, self._row, tokens)

    def end(self, code: str) -> None:
        """The request ended: "ok", "client_closed", "client_stalled" or an error's code.

        The first end counts; only answers are timed.
        """
        if self._ended:
            return
        self._ended = True
        self._table.add(self._row, Column.RESULTS + RESULT_CODES.index(code), 1)
        if code == "ok":
            E2E.observe(self._table, self._row, self._clock() - self._arrived_s)


class Meter(Count):
    """Counts a client's request, from now on also the error that is its answer."""

    def __init__(self, route: Route, request: Request, clock: Callable[[], float]) -> None:
        super().__init__(route, request.scope["state"]["arrived_s"], clock)
        request.scope["state"]["count"] = self.end
