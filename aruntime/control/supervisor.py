"""The supervisor: opens the repository, keeps engines and front ends running, and ends them in order.

open the repository and the journal ──► catalog: models, versions, engines      front ends ──hello──► switchboard
a signal ──► front ends drain ──► they leave ──► engines stop ──► exit 0        a second signal: at once
SIGHUP, or another tenants.toml ──► read it ──► front ends and engines are told; a wrong one is not taken
SIGHUP, or another certificate ──► read it and its key ──► front ends are told; a wrong pair is not taken
"""

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Callable
from typing import Any

from aruntime.base import log
from aruntime.base.errors import ModelNotReady, ServingError
from aruntime.control.actions import Actions
from aruntime.control.catalog import Catalog
from aruntime.control.certificate import Certificate, CertificateRefused
from aruntime.control.front_ends import LAST_WORDS_S, FrontEnds
from aruntime.control.guest import Guest
from aruntime.control.host import Host, Settings, VersionKey
from aruntime.control.journal import Journal
from aruntime.control.launcher import Launcher
from aruntime.control.machine import DeviceUnknown, device_of, gpu_memory_bytes, memory_bytes
from aruntime.control.repository import Repository
from aruntime.control.residency import Memory
from aruntime.control.settings import VersionRefused
from aruntime.control.switchboard import Switchboard
from aruntime.control.tenants import Tenants, TenantsRefused
from aruntime.control.worker import Command, Worker
from aruntime.queue.post import Post, enclose, read_enclosure
from aruntime.wire.actions import decode_action
from aruntime.wire.control import Act, Dependencies, Drain, Outcome, Wanted

WATCH_S = 0.5
_ENGINE_STOP_S = 5.0


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
        certificate: Certificate | None = None,
        *,
        on_ready: Callable[[], None] = lambda: None,
        on_empty: Callable[[], None] = lambda: None,
    ) -> None:
        self.guests: set[Guest] = set()
        self._settings = settings
        self._launcher = launcher
        self._on_ready, self._on_empty = on_ready, on_empty
        self._front_ends: FrontEnds | None = None
        self._tenants, self._certificate = tenants or Tenants(), certificate or Certificate()
        self._switchboard = Switchboard(str(settings.repository), self._tenants, self._certificate, self._on_change)
        self._journal = Journal(settings.journal)
        self._catalog: Catalog | None = None
        self._actions: Actions | None = None
        self._was_ready = False
        self._drain_by_s: float | None = None
        self._status = 0
        self._stop, self._hurry, self._changed = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def run(self, workers: int = 0, command: Command | None = None) -> int:
        """Serve until told to stop; the process's exit status. `workers` front ends are started with `command`."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop)
        if self._tenants.path is not None or self._certificate.given:
            loop.add_signal_handler(signal.SIGHUP, self._read_again)
        if command is not None:
            self._front_ends = self._start(command, workers)
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

    def admit(self, post: Post, kill: Callable[[], None]) -> Guest:
        """A front end has connected over `post`; `kill` ends its process."""
        guest = Guest(post, self._switchboard, kill, self._on_hello, self._on_leave, self._on_wish)
        self.guests.add(guest)
        return guest

    def ready_models(self) -> list[str]:
        """What is served now, as `name@version`."""
        replicas = self._switchboard.replicas.values()
        return [f"{replica.model}@{replica.version}" for replica in replicas if replica.life == "ready"]

    def _start(self, command: Command, count: int) -> FrontEnds:
        def new() -> Worker:
            return Worker(command, self._launcher, time.monotonic, self.admit, self._changed.set)

        front_ends = FrontEnds(new, count, self._until, self._journal, self._settings.drain_timeout_s)
        front_ends.start()
        return front_ends

    async def _open(self) -> None:
        """Find the models and load those that must be ready; what cannot be loaded says why."""
        try:
            repository = await asyncio.to_thread(Repository, self._settings.repository, self._settings.trusted_key)
            host = await asyncio.to_thread(self._host, repository)
            catalog = Catalog(host, self._break)
            await catalog.open()
        except (VersionRefused, DeviceUnknown, OSError) as error:
            log.error("repository.refused", reason=str(error))
            self._give_up()
            return
        self._catalog, self._actions = catalog, Actions(catalog, host, self._front_ends)
        await catalog.start()
        self._on_change()

    def _host(self, repository: Repository) -> Host:
        settings = self._settings
        device = device_of(settings.device)
        bytes_max = settings.memory_bytes or (memory_bytes() if device == "cpu" else gpu_memory_bytes())
        log.info("memory.budget", bytes=bytes_max)
        memory: Memory[VersionKey] = Memory(bytes_max)
        return Host(
            settings,
            repository,
            self._launcher,
            self._switchboard,
            memory,
            self._journal,
            time.monotonic,
            device=device,
        )

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            for replica in list(self._switchboard.replicas.values()):
                replica.watch()
            if self._tenants.has_changed():
                self._read_tenants()
            if self._certificate.has_changed():
                self._read_certificate()
            self._tell_dependencies()

    def _tell_dependencies(self) -> None:
        certificate = self._certificate.trouble if self._certificate.given else None
        self._switchboard.dependencies_are(Dependencies(journal=self._journal.trouble, certificate=certificate))

    def _read_again(self) -> None:
        """Read what can be read again, whether it has changed or not."""
        self._read_tenants()
        self._read_certificate()

    def _read_certificate(self) -> None:
        if not self._certificate.given:
            return
        try:
            self._certificate.read()
        except CertificateRefused as error:
            log.error("certificate.refused", reason=str(error))
            return
        log.info("certificate.read")
        self._switchboard.certificate_changed()

    def _read_tenants(self) -> None:
        if self._tenants.path is None:
            return
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
            self._break(error)

    def _break(self, error: BaseException) -> None:
        log.error("supervisor.broken", error=type(error).__name__, detail=str(error))
        self._status = 1
        self.stop()

    def _on_hello(self, guest: Guest) -> None:
        if self._drain_by_s is not None:
            guest.line.send(Drain(deadline_s=self._drain_by_s))
        self._on_change()

    def _on_leave(self, guest: Guest) -> None:
        self.guests.discard(guest)
        self._changed.set()
        if not self.guests:
            self._on_empty()

    def _on_wish(self, guest: Guest, wish: Wanted | Act, fds: list[int]) -> None:
        """A front end wants something of the models."""
        if isinstance(wish, Wanted):
            if self._catalog is not None:
                self._catalog.want(wish.model, wish.version)
            return
        try:
            data = read_enclosure(fds[0])
        finally:
            os.close(fds[0])
        if self._catalog is None:
            self._answer(guest, wish, ModelNotReady("the repository is not open yet"))
        else:
            self._catalog.spawn(self._act(guest, wish, data))

    async def _act(self, guest: Guest, wish: Act, data: bytes) -> None:
        assert self._actions is not None
        try:
            action = decode_action(data)
            self._answer(guest, wish, await self._actions.do(action, actor=wish.actor, request_id=wish.request_id))
        except ServingError as error:
            self._answer(guest, wish, error)

    def _answer(self, guest: Guest, wish: Act, result: dict[str, Any] | ServingError) -> None:
        if isinstance(result, ServingError):
            said, told = (result.code, result.message[:2000], result.param), b"{}"
        else:
            said, told = ("ok", "", None), json.dumps(result).encode()
        code, message, param = said
        enclosure = enclose(told)
        try:
            guest.line.send(Outcome(number=wish.number, code=code, message=message, param=param), (enclosure,))
        finally:
            os.close(enclosure)

    def _on_change(self) -> None:
        self._changed.set()
        if self._catalog is None:
            return
        self._catalog.wake()
        if self._was_ready or self._catalog.pending:
            return
        if self._catalog.all_failed:
            if self._front_ends is not None:  # front ends that came by themselves stay, to say why
                self._give_up()
        elif self._switchboard.is_settled(len(self._front_ends or ())):
            self._was_ready = True
            self._on_ready()

    def _give_up(self) -> None:
        """Nothing can be served, so nothing has to be finished."""
        self._status = 1
        self._hurry.set()
        self.stop()

    async def _finish(self) -> None:
        """Let what runs end, up to the limit; then make it end; then let the engines go."""
        if self._catalog is not None:
            self._catalog.stop()
        self._drain_by_s = time.monotonic() + self._settings.drain_timeout_s
        log.info("server.draining", limit_s=self._settings.drain_timeout_s)
        if self._front_ends is not None:
            self._front_ends.stop()
        self._switchboard.drain(self._drain_by_s)
        await self._until(self._front_ends_gone, self._settings.drain_timeout_s + LAST_WORDS_S)
        if self._front_ends is not None:
            self._front_ends.kill()
        for replica in self._switchboard.replicas.values():
            replica.stop()
        if not await self._until(self._engines_gone, _ENGINE_STOP_S):
            for replica in self._switchboard.replicas.values():
                replica.kill()
        self._hurry.clear()  # the last wait: whoever was killed is being reaped
        await self._until(lambda: self._engines_gone() and self._workers_gone(), _ENGINE_STOP_S)
        self._switchboard.close()
        self._journal.close()
        log.info("server.stopped", status=self._status)

    def _front_ends_gone(self) -> bool:
        return not self.guests and self._workers_gone()

    def _workers_gone(self) -> bool:
        return self._front_ends is None or self._front_ends.gone

    def _engines_gone(self) -> bool:
        return all(replica.gone for replica in self._switchboard.replicas.values())

    async def _until(self, done: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until `done`, but not longer than `timeout_s`, and not once somebody is in a hurry."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not done() and not self._hurry.is_set():
                    self._changed.clear()
                    await self._changed.wait()
        return done()
