"""The supervisor: opens the repository, keeps engines and front ends running, and ends them in order.

open, verify ──► a replica for the newest version of each model          front ends ──hello──► switchboard
a signal ──► front ends drain ──► they leave ──► engines stop ──► exit 0        a second signal: at once
SIGHUP, or another tenants.toml or model.toml ──► read it ──► front ends and engines are told; a wrong one is not taken
"""

import asyncio
import contextlib
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aruntime.base import log
from aruntime.control.guest import Guest
from aruntime.control.launcher import Launcher
from aruntime.control.replica import Replica
from aruntime.control.repository import ModelVersion, Repository
from aruntime.control.settings import VersionRefused
from aruntime.control.switchboard import Switchboard
from aruntime.control.tenants import Tenants, TenantsRefused
from aruntime.control.watched import WatchedFile
from aruntime.control.worker import Command, Worker
from aruntime.queue.post import Post
from aruntime.wire.control import Drain, Load

WATCH_S = 0.5
# After the drain's limit a front end tells the clients what it cut short, and leaves.
_LAST_WORDS_S = 4.0
_ENGINE_STOP_S = 5.0


@dataclass(frozen=True, slots=True)
class Settings:
    """What the supervisor is asked to serve, and on what."""

    repository: Path
    device: str  # auto, cpu, cuda
    threads: int  # of each engine
    cache_bytes: int  # of each model that does not say
    drain_timeout_s: float


class Supervisor:
    """Runs in one event loop; nothing in it computes or waits for a peer.

    `on_ready()` is called once, when every replica is ready or failed and every worker sends to the ready ones;
    `on_empty()` whenever the last front end has gone.
    """

    def __init__(
        self,
        settings: Settings,
        launcher: Launcher,
        tenants: Tenants | None = None,
        *,
        on_ready: Callable[[], None] = lambda: None,
        on_empty: Callable[[], None] = lambda: None,
    ) -> None:
        self.guests: set[Guest] = set()
        self._settings = settings
        self._launcher = launcher
        self._on_ready, self._on_empty = on_ready, on_empty
        self._workers: list[Worker] = []
        self._tenants = tenants or Tenants()
        self._switchboard = Switchboard(str(settings.repository), self._tenants, self._on_change)
        self._models: dict[Replica, WatchedFile] = {}
        self._opened = self._was_ready = False
        self._drain_by_s: float | None = None
        self._status = 0
        self._stop, self._hurry, self._changed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def run(self, workers: int = 0, command: Command | None = None) -> int:
        """Serve until told to stop; the process's exit status. `workers` front ends are started with `command`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        if self._tenants.path is not None:
            loop.add_signal_handler(signal.SIGHUP, self._read_tenants)
        if command is not None:
            self._workers = [
                Worker(command, self._launcher, time.monotonic, self.admit, self._changed.set) for _ in range(workers)
            ]
        for worker in self._workers:
            worker.start()
        tasks = [asyncio.create_task(work) for work in (self._open(), self._watch())]
        for task in tasks:
            task.add_done_callback(self._on_done)
        await self._stop.wait()
        for task in tasks:
            task.cancel()
        await self._finish()
        return self._status

    def stop(self) -> None:
        """Drain and end; told a second time, end at once."""
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()
        self._changed.set()

    def admit(self, post: Post, kill: Callable[[], None]) -> None:
        """A front end has connected over `post`; `kill` ends its process."""
        self.guests.add(Guest(post, self._switchboard, kill, self._on_hello, self._on_leave))

    def ready_models(self) -> list[str]:
        """What is served now, as `name@version`."""
        replicas = self._switchboard.replicas.values()
        return [f"{replica.model}@{replica.version}" for replica in replicas if replica.life == "ready"]

    async def _open(self) -> None:
        """Make a replica of each model's newest version; those that are not as they were published fail."""
        try:
            repository = await asyncio.to_thread(Repository, self._settings.repository)
            models = await asyncio.to_thread(repository.models)
            if not models:
                raise VersionRefused(f"there is no model in {self._settings.repository}")
        except (VersionRefused, OSError) as error:
            log.error("repository.refused", reason=str(error))
            self._give_up()
            return
        for number, name in enumerate(models):
            newest = repository.versions(name)[-1]
            self._switchboard.add(
                Replica(number, name, newest, self._launcher, time.monotonic, self._switchboard.changed)
            )
        for replica in self._switchboard.replicas.values():
            await self._start(repository, replica)
        self._opened = True
        self._on_change()

    async def _start(self, repository: Repository, replica: Replica) -> None:
        try:
            file = WatchedFile(repository.model_file(replica.model))
            version = await asyncio.to_thread(repository.open, replica.model, replica.version)
            await asyncio.to_thread(version.verify)
            order = load_order(replica.number, version, self._settings)
            replica.start(order, version.settings.created_s, version.model.callers)
            self._models[replica] = file
        except (VersionRefused, OSError) as error:
            replica.fail(str(error))

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            for replica in self._switchboard.replicas.values():
                replica.watch()
            if self._tenants.has_changed():
                self._read_tenants()
            for replica, file in self._models.items():
                if file.has_changed():
                    self._read_model(replica, file)

    def _read_model(self, replica: Replica, file: WatchedFile) -> None:
        file.begin_reading()
        try:
            model = Repository(self._settings.repository).read_model(replica.model)
        except VersionRefused as error:
            log.error("model.refused", model=replica.model, reason=str(error))
            return
        log.info("model.read", model=replica.model)
        replica.rebind(model.bounds, model.callers)
        self._switchboard.rebound(replica)

    def _read_tenants(self) -> None:
        try:
            self._tenants.read()
        except TenantsRefused as error:
            log.error("tenants.refused", reason=str(error))
            return
        log.info("tenants.read", tenants=len(self._tenants.listed.tenants or ()))
        self._switchboard.tenants_changed()

    def _on_done(self, task: "asyncio.Task[Any]") -> None:
        """A supervisor with a fault of its own must not stand there half alive."""
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("supervisor.broken", error=type(error).__name__, detail=str(error))
            self._status = 1
            self.stop()

    def _on_hello(self, guest: Guest) -> None:
        if self._drain_by_s is not None:
            guest.line.send(Drain(deadline_s=self._drain_by_s))

    def _on_leave(self, guest: Guest) -> None:
        self.guests.discard(guest)
        self._changed.set()
        if not self.guests:
            self._on_empty()

    def _on_change(self) -> None:
        self._changed.set()
        if not self._opened or self._was_ready:
            return
        if all(replica.life == "failed" for replica in self._switchboard.replicas.values()):
            if self._workers:  # front ends that came by themselves stay, to say why
                self._give_up()
        elif self._switchboard.is_settled(len(self._workers)):
            self._was_ready = True
            self._on_ready()

    def _give_up(self) -> None:
        """Nothing can be served, so nothing has to be finished."""
        self._status = 1
        self._hurry.set()
        self.stop()

    async def _finish(self) -> None:
        """Let what runs end, up to the limit; then make it end; then let the engines go."""
        self._drain_by_s = time.monotonic() + self._settings.drain_timeout_s
        log.info("server.draining", limit_s=self._settings.drain_timeout_s)
        for worker in self._workers:
            worker.stop()
        self._switchboard.drain(self._drain_by_s)
        await self._until(self._front_ends_gone, self._settings.drain_timeout_s + _LAST_WORDS_S)
        for worker in self._workers:
            worker.kill()
        for replica in self._switchboard.replicas.values():
            replica.stop()
        if not await self._until(self._engines_gone, _ENGINE_STOP_S):
            for replica in self._switchboard.replicas.values():
                replica.kill()
        self._hurry.clear()  # the last wait: whoever was killed is being reaped
        await self._until(lambda: self._engines_gone() and self._workers_gone(), _ENGINE_STOP_S)
        self._switchboard.close()
        log.info("server.stopped", status=self._status)

    def _front_ends_gone(self) -> bool:
        return not self.guests and self._workers_gone()

    def _workers_gone(self) -> bool:
        return all(worker.child is None for worker in self._workers)

    def _engines_gone(self) -> bool:
        return all(replica.engine is None for replica in self._switchboard.replicas.values())

    async def _until(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until `done`, but not longer than `timeout_s`, and not once somebody is in a hurry."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not done() and not self._hurry.is_set():
                    self._changed.clear()
                    await self._changed.wait()
        return done()


def load_order(number: int, version: ModelVersion, settings: Settings) -> Load:
    """What the engine of replica `number` is told to load. VersionRefused when it was built for another device."""
    limits, built = version.model.limits, version.settings
    if settings.device not in ("auto", built.target) and built.target != "any":
        raise VersionRefused(f"it was built for {built.target}; this server runs on {settings.device}")
    return Load(
        replica=number,
        model=version.name,
        version=version.version,
        folder=str(version.folder),
        device=settings.device if built.target == "any" else built.target,
        dtype=built.precision,
        cache_dtype=built.cache_precision,
        cache_bytes=limits.cache_bytes or settings.cache_bytes,
        block_tokens=limits.block_tokens,
        sequences_max=limits.sequences_max,
        step_tokens_max=limits.step_tokens_max,
        bounds=version.model.bounds,
        threads=settings.threads,
    )
