"""The front ends that this supervisor has started: kept running, and on request replaced without a client noticing.

A restart replaces one after the other:

    another starts ──it listens, and sends to every ready replica──► the old one drains, leaves ──► the next
         └──it dies, or is not up in time──► it is put away, the old one goes on, and the restart has failed

So there is one more than usual meanwhile, and never one less. At first, when nobody is served, all are started at once.
"""

import asyncio
import time
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import asdict, dataclass
from typing import Any, Literal

from aruntime.base import log
from aruntime.control.journal import Journal
from aruntime.control.lives import NotPossible
from aruntime.control.worker import Worker
from aruntime.queue.columns import FRONT_ENDS_MAX

FRONT_ENDS = "front ends"  # in the audit trail
COUNT_MAX = FRONT_ENDS_MAX - 1  # a restart wants one more
_UP_S_MAX = 60.0  # from the start of a process until it serves
_GONE_S_MAX = 5.0  # of a process that was killed
# After the drain's limit a front end tells the clients what it cut short, and leaves.
LAST_WORDS_S = 4.0


@dataclass(slots=True)
class Restart:
    """How far a restart is: `replaced` of `count`."""

    count: int
    replaced: int = 0
    state: Literal["running", "done", "failed", "cut short"] = "running"
    reason: str = ""


class _NotUp(Exception):
    """A front end that was to take another one's place does not serve; the message says why."""


class FrontEnds:
    """`count` of them, made by `new`. `until(condition, timeout_s)` waits until it is true, and says whether it is."""

    def __init__(
        self,
        new: Callable[[], Worker],
        count: int,
        until: Callable[[Callable[[], bool], float], Awaitable[bool]],
        journal: Journal,
        drain_timeout_s: float,
    ) -> None:
        self._new = new
        self._until = until
        self._journal = journal
        self._drain_timeout_s = drain_timeout_s
        self._workers = [new() for _ in range(count)]
        self._restart: Restart | None = None

    def __len__(self) -> int:
        return len(self._workers)

    def start(self) -> None:
        """Start them all."""
        for worker in self._workers:
            worker.start()

    def stop(self) -> None:
        """Start none again."""
        for worker in self._workers:
            worker.stop()

    def kill(self) -> None:
        """End them at once."""
        for worker in self._workers:
            worker.kill()

    @property
    def gone(self) -> bool:
        """Whether no process is left."""
        return all(worker.child is None for worker in self._workers)

    def facts(self) -> dict[str, Any]:
        """Each with its process and state, and how far the last restart is."""
        return {
            "front_ends": [
                {"pid": worker.child.pid if worker.child is not None else None, "state": worker.state}
                for worker in self._workers
            ],
            "restart": asdict(self._restart) if self._restart is not None else None,
        }

    def restart(self, actor: str) -> Coroutine[Any, Any, None]:
        """Begin to replace them; what is to be awaited does it. NotPossible while that is under way."""
        if self._restart is not None and self._restart.state == "running":
            raise NotPossible("a restart is under way")
        self._restart = Restart(count=len(self._workers))
        return self._replace_all(self._restart, actor)

    async def _replace_all(self, restart: Restart, actor: str) -> None:
        try:
            for worker in list(self._workers):
                await self._replace(worker)
                restart.replaced += 1
            restart.state = "done"
        except _NotUp as error:
            restart.state, restart.reason = "failed", str(error)
            log.error("front_ends.not_restarted", reason=str(error))
        except asyncio.CancelledError:
            restart.state, restart.reason = "cut short", "the server ended"
            raise
        finally:
            detail = f"{restart.replaced} of {restart.count}" + (f": {restart.reason}" if restart.reason else "")
            self._journal.record(actor, "restart", FRONT_ENDS, restart.state, detail)

    async def _replace(self, old: Worker) -> None:
        new = self._new()
        self._workers.append(new)
        new.start()
        await self._until(lambda: new.state == "serving" or new.child is None, _UP_S_MAX)
        if new.state != "serving":
            why = "died" if new.child is None else f"did not serve within {_UP_S_MAX:g} s"
            await self._put_away(new)
            raise _NotUp(f"the new front end {why}")
        old.replace(time.monotonic() + self._drain_timeout_s)
        await self._until(lambda: old.child is None, self._drain_timeout_s + LAST_WORDS_S)
        await self._put_away(old)

    async def _put_away(self, worker: Worker) -> None:
        worker.stop()
        worker.kill()
        await self._until(lambda: worker.child is None, _GONE_S_MAX)
        self._workers.remove(worker)
