"""One replica of a model version, as the supervisor keeps it: an engine process, started again whenever it dies.

    starting ──Loaded──► warming ──Ready──► probing ──its golden questions answered──► ready
        ▲                   │                  │                                         │
        └──────backoff── down ◄───its end──────┴─────────────────────────────────────────┘
                                                       failed: trying again would end the same way
                                                       stopped: told to leave

Each life of the engine has its own table, bell and channels: a late word of the last one reaches nobody. Each is probed
before any front end knows of it; a probe that could not be made is made again, one that found wrong answers is not. A
tensor model has no tokenizer to ask with: it is ready when it is warm.
"""

import asyncio
import itertools
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from aruntime.base import log
from aruntime.control.launcher import Child, Launcher, describe
from aruntime.control.line import Line
from aruntime.control.probe.prober import PROBE_S_MAX, Prober
from aruntime.queue.channel import create_bell
from aruntime.queue.columns import COLUMNS, ENGINE_ROW, PROBER_ROW, TABLE_ROWS, Column
from aruntime.queue.post import pair
from aruntime.queue.table import Table, create_table
from aruntime.wire.compatibility import Compatibility
from aruntime.wire.control import (
    Bounds,
    DetachFrontEnd,
    Failed,
    Life,
    Load,
    Loaded,
    Message,
    Probe,
    Probed,
    Ready,
    SetBounds,
    Stop,
)

TRANSITIONS: dict[Life, set[Life]] = {
    "starting": {"warming", "down", "failed", "stopped"},
    "warming": {"probing", "ready", "down", "failed", "stopped"},
    "probing": {"ready", "down", "failed", "stopped"},
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
# One that dies so often before it was ever ready is not going to be.
DEATHS_MAX = 6
_LAST_BREATH_S = 1.0
# Probes of one life of an engine that came to no result: the prober died, or nothing was answered in time.
PROBES_MAX = 3
# Its loop turns.
_TURNING: tuple[Life, ...] = ("probing", "ready")


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
        """Let go of everything but the process, and the table: front ends still count what died with it."""
        self.line.close()
        os.close(self.table_fd)
        os.close(self.bell)


class Replica:
    """Keeps the engine of one model version running. `on_change` is called after each change of `life`.

    `wrong`: it failed since its answers, or the files that answers need, are not what the version promises.
    """

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
        self.life: Life = "starting"
        self.reason = "loading"
        self.wrong = False
        self.order: Load | None = None
        self.engine: Engine | None = None
        self._launcher = launcher
        self._clock = clock
        self._on_change = on_change
        self.deaths = 0  # of its engines, all of them
        self._deaths = 0  # one soon after the other
        self._was_ready = False
        self._timer: asyncio.TimerHandle | None = None
        self._prober: Prober | None = None
        self._processes: set[Prober] = set()  # probers whose process has not ended
        self._probes = 0  # of this life
        self._epoch = itertools.count(1)  # of the channels between engine and probers

    @property
    def gone(self) -> bool:
        """Whether no process of it is left."""
        return self.engine is None and not self._processes

    @property
    def key(self) -> Compatibility | None:
        """What its engine has loaded, once it has."""
        return self.engine.loaded.key if self.engine is not None and self.engine.loaded is not None else None

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
            self._cancel_probe()

    def probe(self, on_done: Callable[[Probed], None], arguments: Sequence[str] = ()) -> None:
        """Ask a ready replica its golden questions beside what it serves; nothing changes by how they are answered.

        `on_done` is called once, at once when the replica is not ready or is being probed. `arguments` are the prober's
        own.
        """
        if self.life != "ready" or self._prober is not None:
            on_done(Probed(passed=False, reason="the replica is not ready, or is being probed"))
            return

        def done(probed: Probed) -> None:
            self._end_probe()
            on_done(probed)

        self._prober = self._start_prober(done, arguments)
        self._ask(alone=False)

    def send(self, message: Message, fds: tuple[int, ...] = ()) -> None:
        """Say something to the engine, if there is one."""
        if self.engine is not None:
            self.engine.line.send(message, fds)

    def stop(self) -> None:
        """Tell the engine to leave and do not start it again. One that does not listen yet has nothing to leave."""
        if self.life in _TURNING:
            self.send(Stop())
        else:
            self.kill()
        if self.life != "stopped":
            self._become("stopped", "the server stopped")
        self._cancel_probe()

    def kill(self) -> None:
        """End the engine's process at once."""
        if self.engine is not None:
            self.engine.child.kill()

    def watch(self) -> None:
        """Kill an engine that makes no progress; its death is then handled like any other."""
        if self.engine is None or self.life in ("failed", "stopped"):
            return
        idle_s = self._idle_s(self.engine)
        if idle_s > (STALL_S_MAX if self.life in _TURNING else LOAD_S_MAX):
            log.error("engine.stuck", replica=self.number, model=self.model, idle_s=idle_s)
            self.kill()

    def _idle_s(self, engine: Engine) -> float:
        heartbeat_s = engine.table.get(ENGINE_ROW, Column.HEARTBEAT_US) / 1e6 if self.life in _TURNING else 0.0
        return self._clock() - max(engine.since_s, heartbeat_s)

    def _launch(self) -> None:
        assert self.order is not None
        table_fd, bell = create_table(TABLE_ROWS, COLUMNS), create_bell()
        mine, theirs = pair()
        control = theirs.fileno()
        try:
            child = self._launcher.start(
                "aruntime.engine.main", ["--control-fd", str(control)], [control], self._on_end
            )
        except OSError as error:  # no room for one more process
            mine.close()
            os.close(table_fd)
            os.close(bell)
            self._on_death(f"the engine could not be started: {error.strerror}", 0.0)
            return
        finally:
            theirs.close()
        line = Line(mine, self._on_message, self._on_hang_up)
        self.engine = Engine(child, line, table_fd, Table(table_fd), bell, self._clock())
        line.send(self.order, (table_fd, bell))
        if self.order.engine == "decoder":
            self._begin_probe()

    def _on_message(self, message: Message, fds: list[int]) -> None:
        assert self.engine is not None
        if self.life in ("failed", "stopped"):
            for fd in fds:
                os.close(fd)
            return
        match message:
            case Loaded():
                self.engine.loaded = message
                self._become("warming", "warming up")
            case Ready():
                self._on_warm()
            case Failed(reason=reason):
                self.fail(reason)
            case _:
                for fd in fds:
                    os.close(fd)
                raise ValueError(f"an engine does not say {message.kind}")

    def _on_warm(self) -> None:
        if self._prober is None:
            self._become("ready", "")
        else:
            self._become("probing", "answering its golden questions")
            self._ask(alone=True)

    def _begin_probe(self) -> None:
        try:
            self._probes = 1
            self._prober = self._start_prober(self._on_probed)
        except OSError as error:
            log.error("prober.refused", replica=self.number, reason=str(error))
            self.kill()  # and again, when there may be room for both

    def _start_prober(self, on_done: Callable[[Probed], None], arguments: Sequence[str] = ()) -> Prober:
        assert self.order is not None
        prober = Prober(self._launcher, self.order.folder, on_done, self._on_prober_gone, arguments)
        self._processes.add(prober)
        return prober

    def _on_prober_gone(self, prober: Prober) -> None:
        self._processes.discard(prober)
        if self.gone:
            self._on_change(self)

    def _ask(self, *, alone: bool) -> None:
        """Join the prober and the engine, which is warm."""
        engine, order = self.engine, self.order
        assert self._prober is not None
        assert engine is not None
        assert engine.loaded is not None
        assert order is not None
        probe = Probe(
            replica=self.number,
            epoch=next(self._epoch),
            context_max=engine.loaded.context_max,
            vocab=engine.loaded.vocab,
            blocks=engine.loaded.blocks,
            block_tokens=order.block_tokens,
            sequences_max=order.sequences_max,
            target=engine.loaded.target,
            precision=engine.loaded.precision,
            alone=alone,
            timeout_s=PROBE_S_MAX,
        )
        self._prober.ask(probe, engine.line, engine.bell, engine.table_fd)

    def _on_probed(self, probed: Probed) -> None:
        """The probe of a starting engine has ended, perhaps with the engine, perhaps before it was warm."""
        self._end_probe()
        if self.life not in ("starting", "warming", "probing"):
            return
        if probed.passed:
            self._become("ready", "")
        elif probed.wrong or self._probes == PROBES_MAX:
            self.wrong = probed.wrong
            self.fail(f"the probe: {probed.reason}"[:2000])
        else:
            log.error("probe.failed", replica=self.number, model=self.model, reason=probed.reason)
            self._probes += 1
            self._prober = self._start_prober(self._on_probed)
            if self.life == "probing":
                self._ask(alone=True)

    def _end_probe(self) -> None:
        """What the prober has counted must not count."""
        self._prober = None
        if self.engine is not None:
            self.send(DetachFrontEnd(front_end=PROBER_ROW))
            self.engine.table.zero(PROBER_ROW)

    def _cancel_probe(self) -> None:
        if self._prober is not None:
            self._prober.cancel("the engine ended")

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
            self._on_death(reason, lasted_s)
        self.engine = None
        self._cancel_probe()
        engine.close()
        if self.life != "down":
            self._on_change(self)

    def _on_death(self, reason: str, lasted_s: float) -> None:
        """Start it again, later each time; unless it never was ready and has been tried often enough."""
        self.deaths += 1
        self._was_ready |= self.life == "ready"
        self._deaths = 1 if lasted_s > _SETTLED_S else self._deaths + 1
        if self._deaths >= DEATHS_MAX and not self._was_ready:
            self.fail(f"{reason}, {self._deaths} times before it was ready")
            return
        self._become("down", reason)
        delay_s = min(BACKOFF_S_MAX, BACKOFF_FIRST_S * 2 ** min(self._deaths - 1, 16))
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
