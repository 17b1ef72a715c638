"""One measurement of one server: the cost of an event of 256 paced streams, or of a small POST."""

import asyncio
import contextlib
import random
import ssl
import time
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from app import EVENT_BYTES, EVENTS, STEP_S, last_event
from client import Connection, EventsInOrder, Http1Connection, Whole, Wrong

STREAMS = 256
EVENTS_PER_S = STREAMS / STEP_S  # that 256 streams are due
POSTERS = 16
BODY = b'{"model": "demo", "prompt": "What is a canary rollout?", "max_tokens": 16, "temperature": 0.0}'
_WHOLE = b"".join(EVENTS)
_SETTLE_S = 0.3
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class Cost:
    """What was measured in one window."""

    cpu_s: float
    count: int  # of events or requests
    seconds: float
    client_cpu_s: float

    @property
    def each_us(self) -> float:
        return 1e6 * self.cpu_s / self.count

    @property
    def rate(self) -> float:
        return self.count / self.seconds


class Fault:
    """Keeps the first thing that a server does wrong; `check` raises it."""

    def __init__(self) -> None:
        self._first: Exception | None = None

    def __call__(self, error: Exception) -> None:
        self._first = self._first or error

    def check(self) -> None:
        if self._first is not None:
            raise Wrong(str(self._first)) from self._first


@contextlib.asynccontextmanager
async def connected(
    port: int, count: int, trust: ssl.SSLContext | None, fault: Fault
) -> AsyncIterator[list[Connection]]:
    """So many connections of HTTP/2."""
    connections = [await Connection.open("127.0.0.1", port, trust, fault) for _ in range(count)]
    try:
        yield connections
    finally:
        for connection in connections:
            connection.close()


async def cost_while(seconds: float, cpu_s: Callable[[], float], counted: Callable[[], int], fault: Fault) -> Cost:
    """What is used and counted in the next seconds."""
    used_s, count, own_s, from_s = cpu_s(), counted(), time.process_time(), time.monotonic()
    await asyncio.sleep(seconds)
    fault.check()
    until_s = time.monotonic()
    return Cost(cpu_s() - used_s, counted() - count, until_s - from_s, time.process_time() - own_s)


async def paced(
    connections: Sequence[Connection], path: str, window_s: float, cpu_s: Callable[[], float], fault: Fault
) -> Cost:
    """256 streams of the application over these connections, to their ends."""
    answers = [EventsInOrder(_WHOLE, EVENT_BYTES, last_event) for _ in range(STREAMS)]
    for number, answer in enumerate(answers):
        connections[number % len(connections)].ask(path, answer)
        await asyncio.sleep(random.random() * STEP_S / 16)  # a stream that keeps its own time begins at its own
    await asyncio.sleep(_SETTLE_S)
    cost = await cost_while(window_s, cpu_s, lambda: sum(answer.events for answer in answers), fault)
    connections[0].ask("/end", Whole(lambda _: None))
    await ended([answer.ended for answer in answers], fault)
    return cost


async def posts(
    connections: Sequence[Connection | Http1Connection],
    path: str,
    body: bytes,
    is_right: Callable[[bytes], bool],
    window_s: float,
    cpu_s: Callable[[], float],
    fault: Fault,
) -> Cost:
    """A small POST on each connection, and the next one when it is answered."""
    loop, until_s = asyncio.get_running_loop(), time.monotonic() + _SETTLE_S + window_s
    count = 0
    idle = [loop.create_future() for _ in connections]

    def next_on(number: int, answer: bytes | None = None) -> None:
        nonlocal count
        if answer is not None:
            count += 1
            if not is_right(answer):
                raise Wrong(f"{path} is answered {answer[:200]!r}")
        if time.monotonic() < until_s:
            connections[number].ask(path, Whole(partial(next_on, number)), body)
        else:
            idle[number].set_result(None)

    for number in range(len(connections)):
        next_on(number)
    await asyncio.sleep(_SETTLE_S)
    cost = await cost_while(window_s, cpu_s, lambda: count, fault)
    await ended(idle, fault)
    return cost


async def ended(answers: Sequence["asyncio.Future[Any]"], fault: Fault) -> None:
    """Wait for all of them. Wrong: one is, or does not end."""
    _, open_ones = await asyncio.wait(answers, timeout=_PATIENCE_S)
    fault.check()
    if open_ones:
        raise Wrong(f"{len(open_ones)} answers do not end")
