"""Copies of requests, sent to a rollout's candidate before any answer of it is used: computed, counted, thrown away.

A copy is a request of the lowest class that costs its tenant nothing. There are never more than MIRRORED_MAX of them in
a front end, so a slow candidate delays nobody; what would be one more is not copied.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

from starlette.responses import Response
from starlette.types import Message

from aruntime.base import log
from aruntime.base.errors import ServingError
from aruntime.control.view import ServedVersion
from aruntime.http.meter import Count
from aruntime.http.requests import Terms
from aruntime.queue.records import Priority

MIRRORED_MAX = 16

Reply = Callable[[ServedVersion, Count, Terms], Awaitable[Response]]
"""Makes the answer to a request that goes to this replica, is counted so, and on these terms."""


class Mirror:
    """One front end's copies. `clock` is the monotonic one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._copies: set[asyncio.Task[None]] = set()

    def copy(self, candidate: ServedVersion, terms: Terms, reply: Reply) -> None:
        """Have the candidate answer what was asked, if there is room for one copy more."""
        if len(self._copies) < MIRRORED_MAX:
            task = asyncio.create_task(self._answer(candidate, terms, reply))
            self._copies.add(task)
            task.add_done_callback(self._copies.discard)

    async def _answer(self, candidate: ServedVersion, terms: Terms, reply: Reply) -> None:
        now_s = self._clock()
        terms = replace(terms, arrived_s=now_s, priority=Priority.BATCH, mirrored=True)
        count = Count(candidate.route, now_s, self._clock)
        try:
            response = await reply(candidate, count, terms)
            await response({"type": "http"}, _stay, _drop)
        except ServingError as error:
            count.end(error.code)
        except Exception as error:
            log.error("mirror.bug", request=terms.request_id, error=type(error).__name__)
            count.end("model_error")


async def _stay() -> Message:
    """Nobody asked, so nobody leaves."""
    await asyncio.Future()
    raise AssertionError


async def _drop(_message: Message) -> None:
    return
