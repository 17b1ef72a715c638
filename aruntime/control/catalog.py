"""Every model of the repository on this server: found, loaded, evicted, unloaded when idle, and what operators do.

scan the repository ──► models and versions       what must be ready is loaded when the server starts
Wanted  ──► load for the requests that wait        a version is evicted only for another that fits then
Act     ──► an operator's action, in the audit trail with what came of it
"""

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any

from aruntime.base import log
from aruntime.control.host import Host, VersionKey
from aruntime.control.journal import VersionRecord
from aruntime.control.model import Model
from aruntime.control.settings import VersionRefused

SCAN_S = 2.0
WATCH_S = 0.5


class Catalog:
    """Runs in the supervisor's event loop. `on_broken(error)` is told of a fault of its own."""

    def __init__(self, host: Host, on_broken: Callable[[BaseException], None]) -> None:
        self.models: dict[str, Model] = {}
        self._host = host
        self._on_broken = on_broken
        self._tasks: set[asyncio.Task[Any]] = set()
        self._wanted: set[tuple[str, int | None]] = set()  # what is being loaded for requests
        self._kept = {(kept.model, kept.version): kept for kept in host.journal.versions()}

    @property
    def pending(self) -> bool:
        """Whether something that must be ready is not, and may still become so."""
        return any(model.pending for model in self.models.values())

    @property
    def all_failed(self) -> bool:
        """Whether nothing is served, and nothing will be without an operator."""
        return not any(model.on_demand or model.answers for model in self.models.values())

    async def open(self) -> None:
        """Find the models. VersionRefused when there is none, OSError when the repository cannot be read."""
        found = await asyncio.to_thread(self._scan)
        if not found:
            raise VersionRefused(f"there is no model in {self._host.settings.repository}")
        self._discover(found)

    async def start(self) -> None:
        """Load what must be ready, all models side by side, and see to what changes from then on."""
        for model in list(self.models.values()):
            self.spawn(model.start())
        self.spawn(self._watch())

    def want(self, name: str, number: int | None) -> None:
        """Requests wait for a version: load it, if requests may have it loaded."""
        model = self.models.get(name)
        if model is None or not model.on_demand or not model.may_load(number) or (name, number) in self._wanted:
            return
        self._wanted.add((name, number))
        self._host.journal.record("requests", "load", name if number is None else f"{name}@{number}", "begun")
        self.spawn(self._answer_want(model, number))

    def spawn(self, work: Coroutine[Any, Any, Any]) -> "asyncio.Task[Any]":
        """Do it beside everything else."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def look(self) -> None:
        """Notice which versions are in use at this moment."""
        now_s = self._host.clock()
        for model in self.models.values():
            for version in model.versions.values():
                version.look(now_s)

    async def evict(self, keys: Sequence[VersionKey]) -> None:
        """Make room for another version."""
        for key in keys:
            self._host.memory.leave(key)
        for name, number in keys:
            model = self.models[name]
            version = model.versions[number]
            if version is model.stable:
                model.away = "evicted"
            self._host.journal.record("residency", "evict", f"{name}@{number}", "begun", "its memory is needed")
            await version.unload(self._host.settings.drain_timeout_s, "its memory is needed")

    def stop(self) -> None:
        """Begin nothing more."""
        for task in list(self._tasks):
            task.cancel()

    def wake(self) -> None:
        """A front end or an engine has changed: whoever waits for it looks again."""
        for model in self.models.values():
            for version in model.versions.values():
                version.wake()

    async def _answer_want(self, model: Model, number: int | None) -> None:
        try:
            if number is None:
                await model.load_stable()
            else:
                await model.versions[number].load()
            model.place()
        finally:
            self._wanted.discard((model.name, number))

    async def _watch(self) -> None:
        """Look again and again at what changes by itself."""
        scanned_s = self._host.clock()
        while True:
            await asyncio.sleep(WATCH_S)
            now_s = self._host.clock()
            self.look()
            for model in self.models.values():
                model.watch(now_s)
                for version in model.idle(now_s):
                    reason = f"no request for {model.settings.residency.idle_s:g} s"
                    self._host.journal.record("residency", "unload", f"{model.name}@{version.number}", "begun", reason)
                    self.spawn(version.unload(self._host.settings.drain_timeout_s, reason))
            if now_s - scanned_s > SCAN_S:
                scanned_s = now_s
                await self._rescan()

    async def _rescan(self) -> None:
        try:
            found = await asyncio.to_thread(self._scan)
        except (VersionRefused, OSError) as error:
            log.error("repository.refused", reason=str(error))
            return
        new = self._discover(found)
        for model in new:
            self.spawn(model.start())

    def _scan(self) -> dict[str, list[int]]:
        repository = self._host.repository
        return {name: repository.versions(name) for name in repository.models()}

    def _discover(self, found: dict[str, list[int]]) -> list[Model]:
        """Take up what the repository holds now; the models that are new."""
        new = [name for name in found if name not in self.models]
        for name in new:
            self.models[name] = Model(name, self._host, self)
        for name, model in list(self.models.items()):
            known = set(model.versions)
            if known != set(found.get(name, [])) or name in new:
                for version in model.discover(found.get(name, []), self._kept_of(name)):
                    if name not in new:
                        log.info("version.discovered", model=name, version=version.number)
                        self.spawn(version.verify())
            if not model.versions:
                del self.models[name]
        return [self.models[name] for name in new]

    def _kept_of(self, name: str) -> dict[int, VersionRecord]:
        """What the journal remembers of a model's versions; each is told once, a number that comes back is new."""
        numbers = [number for model, number in self._kept if model == name]
        return {number: self._kept.pop((name, number)) for number in numbers}

    def _ended(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_broken(error)
