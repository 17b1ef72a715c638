"""One version of a model on this server: its life (`aruntime.control.lives`), and the operations that move it.

    load     verify ─► reserve memory ─► engines start, load, warm ─► golden probe ─► standby
    unload   front ends send nothing new ─► what runs ends, up to a limit ─► engines stop ─► memory is given back

Each operation is one task, whoever asks for it and however often; an unload supersedes the load under way, whose later
words are dropped by their generation.
"""

import asyncio
import contextlib
import hashlib
from collections.abc import Callable

from aruntime.base import log
from aruntime.control.host import Host, Neighbours, VersionKey
from aruntime.control.launch_order import footprint_of, launch_order
from aruntime.control.lives import READY, RESIDENT, Life
from aruntime.control.manifest import read_manifest
from aruntime.control.replica import Replica
from aruntime.control.repository import ModelVersion
from aruntime.control.residency import Granted, Refused
from aruntime.control.settings import VersionRefused
from aruntime.queue.columns import ENGINE_ROW, Column
from aruntime.queue.table import Table
from aruntime.wire.compatibility import tokenizer_digest, weights_digest
from aruntime.wire.control import Bounds, Load

_ENGINE_STOP_S = 5.0
# Files that were checked so recently are not checked again before they are loaded.
_VERIFIED_S_MAX = 30.0
# Others may take the room that was made before we come for it; then there is no room.
_TRIES_MAX = 4
_STAGES = {"warming": 1, "probing": 2, "ready": 3}  # of a replica on its way; every other life is 0
_EVENTS = ("warm", "probe", "pass")  # that lead to them


class Version:
    """`on_change(version)` is called after each change of its life."""

    def __init__(
        self,
        model: str,
        number: int,
        host: Host,
        neighbours: Neighbours,
        life: Life,
        on_change: Callable[["Version"], None],
    ) -> None:
        self.model = model
        self.number = number
        self.life = life
        self.created_s = 0
        self.digest = ""
        self.has_golden = False
        self.replicas: list[Replica] = []
        self.used_s = host.clock()
        self._host = host
        self._neighbours = neighbours
        self._on_change = on_change
        self._verified_s = 0.0
        self._files: dict[str, str] = {}  # as they were verified: sha256 by name
        self._served = (0, 0)
        self._changed = asyncio.Event()
        self._loading: asyncio.Task[bool] | None = None
        self._leaving: asyncio.Task[None] | None = None

    @property
    def key(self) -> VersionKey:
        """What memory and journal know it by."""
        return VersionKey(self.model, self.number)

    @property
    def ready(self) -> bool:
        """Whether it answers requests."""
        return self.life.state in READY

    @property
    def up(self) -> bool:
        """Whether it answers requests with all its engines: none of them is being started again."""
        return self.ready and all(replica.life == "ready" for replica in self.replicas)

    @property
    def deaths(self) -> int:
        """How often an engine of it has died since it was loaded."""
        return sum(replica.deaths for replica in self.replicas)

    @property
    def resident(self) -> bool:
        """Whether an engine of it runs, or memory is set aside for one."""
        return self.life.state in RESIDENT

    @property
    def reason(self) -> str:
        """Why it is where it is; of one on its way in, what its engine says."""
        engine = next((replica.reason for replica in self.replicas if replica.life != "ready"), "")
        return engine if self.life.state in ("loading", "warming", "probing") else self.life.reason

    @property
    def in_flight(self) -> int:
        """Sequences that front ends have submitted and that have not ended."""
        return self._sum(Column.IN_FLIGHT)

    @property
    def tokens_left(self) -> int:
        """What all that waits and runs may still generate, at most."""
        return sum(table.get(ENGINE_ROW, Column.TOKENS_LEFT) for table in self.tables())

    def open(self) -> ModelVersion:
        """What its files say of it. VersionRefused."""
        opened = self._host.repository.open(self.model, self.number)
        self.created_s = opened.settings.created_s
        self.has_golden = any((opened.folder / "golden").glob("*.jsonl"))
        return opened

    def tables(self) -> list[Table]:
        """The tables of its engines that live."""
        return [replica.engine.table for replica in self.replicas if replica.engine is not None]

    async def verify(self) -> None:
        """Check its files, if it is neither in memory nor on its way there."""
        loads = self._loading is not None and not self._loading.done()
        if self.life.state in ("discovered", "unloaded", "failed", "quarantined") and not loads:
            await self._verify(self.life.begin())

    async def load(self) -> bool:
        """Bring it to where it answers requests; whether it got there. One load for all who ask for it."""
        if self.ready:
            return True
        if self._loading is None or self._loading.done():
            self._loading = asyncio.create_task(self._load())
        return await asyncio.shield(self._loading)

    async def unload(self, drain_s: float, reason: str) -> None:
        """Take it out of memory; what runs may take `drain_s` longer. Returns when it is gone."""
        if self._leaving is None or self._leaving.done():
            if self.life.state not in RESIDENT:
                self.life.begin()  # a load that has not come so far is superseded
                return
            self._leaving = asyncio.create_task(self._unload(drain_s, reason))
        await asyncio.shield(self._leaving)

    def move(self, event: str, reason: str = "", generation: int | None = None) -> bool:
        """Take one step of its life, and tell. False: it came too late. NotPossible."""
        before = self.life.state
        if not self.life.move(event, reason, generation=generation):
            return False
        log.info("version.is", model=self.model, version=self.number, state=self.life.state, was=before, reason=reason)
        self._tell()
        return True

    def look(self, now_s: float) -> None:
        """Notice whether it is in use, for whoever looks for the least recently used one."""
        served = (self.in_flight, self._sum(Column.ENDED))
        if served != self._served or served[0]:
            self._served, self.used_s = served, now_s
            if self.key in self._host.memory:
                self._host.memory.use(self.key, now_s)
        if self.ready:
            self._host.memory.busy(self.key, served[0] > 0)

    def pin(self, pinned: bool) -> None:
        """Whether it stays in memory, if it is there, whatever others need."""
        if self.key in self._host.memory:
            self._host.memory.pin(self.key, pinned)

    def rebind(self, bounds: Bounds, *, pinned: bool) -> None:
        """Its model has other bounds, or is pinned or not."""
        self.pin(pinned)
        for replica in self.replicas:
            replica.rebind(bounds)
            self._host.switchboard.rebound(replica)

    async def _load(self) -> bool:
        if self._leaving is not None:
            await self._leaving
        generation = self.life.begin()
        try:
            opened = await self._verify(generation)
            if opened is None or not self._is_now(generation):
                return False
            order = launch_order(opened, self._host.settings)
            cache_bytes = await self._reserve(opened, order)
            if cache_bytes is None:
                return False
        except (VersionRefused, OSError) as error:
            self.move("refuse", str(error), generation)
            return False
        if not self.move("admit", generation=generation):
            self._host.memory.release(self.key)
            return False
        self._start(order.model_copy(update={"cache_bytes": cache_bytes}), opened.model.limits.replicas)
        await self._until(
            lambda: self.life.state not in ("loading", "warming", "probing") or not self._is_now(generation)
        )
        return self.ready and self._is_now(generation)

    def _is_now(self, generation: int) -> bool:
        return self.life.generation == generation

    async def _verify(self, generation: int) -> ModelVersion | None:
        """Check every file, unless that was done a moment ago. None: it is not to be loaded, and its life says why."""
        try:
            opened, digest = await asyncio.to_thread(self._look_into)
        except (VersionRefused, OSError) as error:
            if self.life.can("refuse"):
                self.move("refuse", str(error), generation)
            return None
        if self.life.state == "quarantined" and (digest == self.digest or not self._is_now(generation)):
            return None
        if self.life.state == "quarantined":
            self.move("release", "another version was published under its number", generation)
        self.digest = digest
        if self.life.state == "verified" and self._host.clock() - self._verified_s < _VERIFIED_S_MAX:
            return opened
        try:
            self._files = (await asyncio.to_thread(opened.verify)).files
        except VersionRefused as error:
            self.move("corrupt", str(error), generation)
            return None
        self._verified_s = self._host.clock()
        if self.life.state == "verified":
            return opened
        return opened if self.move("verify", generation=generation) else None

    def _look_into(self) -> tuple[ModelVersion, str]:
        """What its files say, and the digest of its manifest."""
        opened = self.open()
        return opened, hashlib.sha256(read_manifest(opened.folder).model_dump_json().encode()).hexdigest()

    async def _reserve(self, opened: ModelVersion, order: Load) -> int | None:
        """Bytes of cache of each replica, once there is memory. None: there is none, and its reason says so."""
        footprint = await asyncio.to_thread(footprint_of, opened, order, self._host.device)
        answer: object = None
        for _ in range(_TRIES_MAX):
            self._neighbours.look()
            answer = self._host.memory.reserve(self.key, footprint, self._host.clock())
            if isinstance(answer, Granted):
                self._host.memory.pin(self.key, opened.model.residency.pinned)
                return max(1, answer.cache_bytes // opened.model.limits.replicas)
            if isinstance(answer, Refused):
                break
            await self._neighbours.evict(answer.keys)
        self.life.reason = answer.reason if isinstance(answer, Refused) else "others took the memory that was freed"
        log.warning("version.no_room", model=self.model, version=self.number, reason=self.life.reason)
        self._tell()
        return None

    def _start(self, order: Load, replicas: int) -> None:
        self._host.memory.busy(self.key, True)
        self.used_s = self._host.clock()
        self.move("load")
        for _ in range(replicas):
            number = self._host.next_replica()
            replica = Replica(number, self.model, self.number, self._host.launcher, self._host.clock, self._on_replica)
            self.replicas.append(replica)
            self._host.switchboard.add(replica)
            replica.start(order.model_copy(update={"replica": number}), self.created_s)

    def _on_replica(self, replica: Replica) -> None:
        self._host.switchboard.changed(replica)
        if replica.life == "warming" and (words := self._mismatch(replica)):
            replica.fail(f"the engine has loaded something else: {words}")
        elif replica.life == "failed" and self.life.can("fail"):
            self._fail(replica)
        elif self.life.state in ("loading", "warming", "probing"):
            self._advance()
            self._on_change(self)
        self._changed.set()

    def _mismatch(self, replica: Replica) -> str:
        """In what a loaded engine differs from the files that were verified, or from the other replicas."""
        key = replica.key
        assert key is not None
        verified = {"weights": weights_digest(self._files), "tokenizer": tokenizer_digest(self._files)}
        wanted = [key.model_copy(update=verified), *(other.key for other in self.replicas if other.key is not None)]
        return next((words for other in wanted if (words := key.mismatch(other))), "")

    def _advance(self) -> None:
        """Go as far as the last of its replicas has come."""
        reached = min(_STAGES.get(replica.life, 0) for replica in self.replicas)
        for stage, event in enumerate(_EVENTS, 1):
            if stage <= reached and self.life.can(event):
                self.move(event)
        if self.ready:
            self._host.memory.busy(self.key, False)

    def _fail(self, replica: Replica) -> None:
        wrong = replica.wrong and self.life.can("wrong")
        self.move("wrong" if wrong else "fail", replica.reason)
        self._leaving = asyncio.create_task(self._clear())

    async def _unload(self, drain_s: float, reason: str) -> None:
        self.life.begin()
        if self.ready:
            self.move("drain", reason)
            for replica in self.replicas:
                self._host.switchboard.retire(replica)
            if not await self._until(lambda: all(map(self._host.switchboard.is_left, self.replicas)), drain_s):
                log.warning("version.cut", model=self.model, version=self.number, tokens_left=self.tokens_left)
        if self.life.can("unload"):
            self.move("unload", reason)
        await self._clear()
        if self.life.can("gone"):
            self.move("gone", reason)

    async def _clear(self) -> None:
        """Stop the engines; when the last has gone, give its memory back."""
        for replica in self.replicas:
            replica.stop()
        if not await self._until(self._gone, _ENGINE_STOP_S):
            for replica in self.replicas:
                replica.kill()
            await self._until(self._gone)
        for replica in self.replicas:
            self._host.switchboard.remove(replica)
        self.replicas.clear()
        self._host.memory.release(self.key)

    def _gone(self) -> bool:
        return all(replica.gone for replica in self.replicas)

    def _sum(self, column: int) -> int:
        return sum(table.sum(column) for table in self.tables())

    def _tell(self) -> None:
        self._changed.set()
        self._on_change(self)

    def wake(self) -> None:
        """Something that it may wait for has changed."""
        self._changed.set()

    async def _until(self, done: Callable[[], bool], timeout_s: float | None = None) -> bool:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not done():
                    self._changed.clear()
                    await self._changed.wait()
        return done()
