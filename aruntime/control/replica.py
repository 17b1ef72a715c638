"""One replica of a model version, as the supervisor keeps it: an engine process, started again whenever it dies.

    starting ──Loaded──► warming ──Ready──► ready
        ▲                   │                 │
        └──────backoff── down ◄───its end─────┘        failed: trying again would end the same way
                                                       stopped: told to leave

Each life of the engine has its own table, bell and channels: a late word of the last one reaches nobody.
"""

import asyncio
import os
from collections.abc import Callable
from dataclasses import dataclass

from aruntime.base import log
from aruntime.control.launcher import Child, Launcher, describe
from aruntime.control.line import Line
from aruntime.queue.channel import create_bell
from aruntime.queue.columns import COLUMNS, ENGINE_ROW, TABLE_ROWS, Column
from aruntime.queue.post import pair
from aruntime.queue.table import Table, create_table
from aruntime.wire.control import Bounds, Drained, Failed, Life, Load, Loaded, Message, Ready, SetBounds, Stop

TRANSITIONS: dict[Life, set[Life]] = {
    "starting": {"warming", "down", "failed", "stopped"},
    "warming": {"ready", "down", "failed", "stopped"},
    "ready": {"down", "failed", "stopped"},
    "down": {"starting", "failed", "stopped"},
    "failed": {"stopped"},
    "stopped": set(),
}

LOAD_S_MAX = 900.0
# The engine's loop turns every quarter of a second at rest; a step of any size we serve takes far less than this.
STALL_S_MAX = 30.0
BACKOFF_FIRST_S, BACKOFF_S_MAX = 0.1, 30.0
# An engine that was ready for so long has not died of its start.
_SETTLED_S = 60.0
_LAST_BREATH_S = 1.0


@dataclass(slots=True)
class Engine:
    """One life of a replica's engine, and what was made for it."""

    child: Child
    line: Line
    table_fd: int
    table: Table
    bell: int
    since_s: float  # when its present state began
    loaded: Loaded | None = None

    def close(self) -> None:
        """Let go of everything but the process."""
        self.line.close()
        self.table.close()
        os.close(self.table_fd)
        os.close(self.bell)


class Replica:
    """Keeps the engine of one model version running. `on_change` is called after each change of `life`."""

    def __init__(
        self,
        number: int,
        model: str,
        version: int,
        launcher: Launcher,
        clock: Callable[[], float],
        on_change: Callable[["Replica"], None],
    ) -> None:
        self.number = number
        self.model = model
        self.version = version
        self.created_s = 0
        self.wrong = False  # it failed by its answers
        self.life: Life = "starting"
        self.reason = "loading"
        self.order: Load | None = None
        self.engine: Engine | None = None
        self._launcher = launcher
        self._clock = clock
        self._on_change = on_change
        self._deaths = 0
        self._timer: asyncio.TimerHandle | None = None

    def start(self, order: Load, created_s: int) -> None:
        """Start the engine with `order`, and again with the same whenever it dies.

        `created_s` is when the version was published, seconds since 1970.
        """
        self.order, self.created_s = order, created_s
        self._launch()

    def rebind(self, bounds: Bounds) -> None:
        """Its model has other bounds: from now on, and in every later life."""
        assert self.order is not None
        self.order = self.order.model_copy(update={"bounds": bounds})
        self.send(SetBounds(bounds=bounds))

    def fail(self, reason: str) -> None:
        """Give up: `reason` holds for every further try."""
        if self.life not in ("failed", "stopped"):
            log.error("replica.failed", replica=self.number, model=self.model, version=self.version, reason=reason)
            self._become("failed", reason)
            self.kill()

    def send(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        """Say something to the engine, if there is one."""
        if self.engine is not None:
            self.engine.line.send(message, fds)

    def stop(self) -> None:
        """Tell the engine to leave and do not start it again."""
        self.send(Stop())
        if self.life != "stopped":
            self._become("stopped", "the server stopped")

    def kill(self) -> None:
        """End the engine's process at once."""
        if self.engine is not None:
            self.engine.child.kill()

    def watch(self) -> None:
        """Kill an engine that makes no progress; its death is then handled like any other."""
        if self.engine is None or self.life in ("failed", "stopped"):
            return
        idle_s = self._idle_s(self.engine)
        if idle_s > (STALL_S_MAX if self.life == "ready" else LOAD_S_MAX):
            log.error("engine.stuck", replica=self.number, model=self.model, idle_s=idle_s)
            self.kill()

    def _idle_s(self, engine: Engine) -> float:
        heartbeat_s = engine.table.get(ENGINE_ROW, Column.HEARTBEAT_US) / 1e6 if self.life == "ready" else 0.0
        return self._clock() - max(engine.since_s, heartbeat_s)

    def _launch(self) -> None:
        assert self.order is not None
        table_fd, bell = create_table(TABLE_ROWS, COLUMNS), create_bell()
        mine, theirs = pair()
        child = self._launcher.start(
            "aruntime.engine.main", ["--control-fd", str(theirs.fileno())], [theirs.fileno()], self._on_end
        )
        theirs.close()
        line = Line(mine, self._on_message, self._on_hang_up)
        self.engine = Engine(child, line, table_fd, Table(table_fd), bell, self._clock())
        line.send(self.order, (table_fd, bell))

    def _on_message(self, message: Message, fds: list[int]) -> None:
        assert self.engine is not None
        match message:
            case Loaded():
                self.engine.loaded = message
                self._become("warming", "warming up")
            case Ready():
                self._become("ready", "")
            case Failed(reason=reason):
                self.fail(reason)
            case Drained():
                pass  # it ends by itself
            case _:
                for fd in fds:
                    os.close(fd)
                raise ValueError(f"an engine does not say {message.kind}")

    def _on_hang_up(self) -> None:
        """A process that hangs up is most often about to end by itself, and its status says more than our kill."""
        assert self.engine is not None
        asyncio.get_running_loop().call_later(_LAST_BREATH_S, self.engine.child.kill)

    def _on_end(self, status: int) -> None:
        """The engine's process has ended."""
        engine = self.engine
        assert engine is not None
        lasted_s = self._clock() - engine.since_s if self.life == "ready" else 0.0
        reason = f"the engine {describe(status)}"
        if self.life not in ("failed", "stopped"):
            log.error("engine.died", replica=self.number, model=self.model, pid=engine.child.pid, reason=reason)
            self._become("down", reason)
            self._again(lasted_s)
        self.engine = None
        engine.close()
        if self.life != "down":
            self._on_change(self)

    def _again(self, lasted_s: float) -> None:
        self._deaths = 0 if lasted_s > _SETTLED_S else self._deaths
        delay_s = min(BACKOFF_S_MAX, BACKOFF_FIRST_S * 2 ** min(self._deaths, 16))
        self._deaths += 1
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._restart)

    def _restart(self) -> None:
        self._become("starting", "loading again")
        self._launch()

    def _become(self, life: Life, reason: str) -> None:
        if life not in TRANSITIONS[self.life]:
            raise ValueError(f"a replica that is {self.life} cannot become {life}")
        self.life, self.reason = life, reason
        if self._timer is not None:
            self._timer.cancel()
        if self.engine is not None:
            self.engine.since_s = self._clock()
        log.info("replica.is", replica=self.number, model=self.model, version=self.version, life=life, reason=reason)
        self._on_change(self)
