"""A front-end process that the supervisor has started, and starts again whenever it dies."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from aruntime.base import log
from aruntime.control.guest import Guest
from aruntime.control.launcher import Child, Launcher, describe
from aruntime.queue.post import Post, pair

BACKOFF_FIRST_S, BACKOFF_S_MAX = 0.1, 10.0
_SETTLED_S = 10.0


@dataclass(frozen=True, slots=True)
class Command:
    """How a front end is started: a module, its arguments, the listening sockets' descriptors that it inherits."""

    module: str
    arguments: tuple[str, ...]
    keep: tuple[int, ...]


class Worker:
    """Keeps one front end running until told to stop.

    `on_start(post, kill)` gets each process's control socket and returns its guest; `on_end()` is called when a process
    has ended.
    """

    def __init__(
        self,
        command: Command,
        launcher: Launcher,
        clock: Callable[[], float],
        on_start: Callable[[Post, Callable[[], None]], Guest],
        on_end: Callable[[], None],
    ) -> None:
        self.child: Child | None = None
        self._command = command
        self._launcher = launcher
        self._clock = clock
        self._on_start = on_start
        self._on_end = on_end
        self._guest: Guest | None = None
        self._stopping = False
        self._deaths = 0
        self._since_s = 0.0

    def start(self) -> None:
        """Start the process."""
        if self._stopping:
            return
        mine, theirs = pair()
        control = theirs.fileno()
        self._since_s = self._clock()
        child = self.child = self._launcher.start(
            self._command.module,
            [*self._command.arguments, "--control-fd", str(control)],
            [*self._command.keep, control],
            self._ended,
        )
        theirs.close()
        self._guest = self._on_start(mine, child.kill)

    @property
    def state(self) -> Literal["starting", "serving", "draining"]:
        """Whether it takes requests, does not yet, or does no more."""
        if self._stopping:
            return "draining"
        return "serving" if self._guest is not None and self._guest.serves else "starting"

    def replace(self, deadline_s: float) -> None:
        """Another serves in its place: have the process leave, and do not start it again."""
        self.stop()
        if self._guest is not None:
            self._guest.replace(deadline_s)

    def stop(self) -> None:
        """Do not start it again."""
        self._stopping = True

    def kill(self) -> None:
        """End the process at once."""
        if self.child is not None:
            self.child.kill()

    def _ended(self, status: int) -> None:
        assert self.child is not None
        if not self._stopping:
            self._deaths = 0 if self._clock() - self._since_s > _SETTLED_S else self._deaths
            delay_s = min(BACKOFF_S_MAX, BACKOFF_FIRST_S * 2 ** min(self._deaths, 16))
            self._deaths += 1
            log.error("front_end.died", pid=self.child.pid, reason=f"it {describe(status)}", again_in_s=delay_s)
            asyncio.get_running_loop().call_later(delay_s, self.start)
        self.child = self._guest = None
        self._on_end()
