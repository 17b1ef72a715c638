"""What a front end knows of the models, for http to read. The agent (`aruntime.control.agent`) keeps it up to date.

    a model's name ─► callers ─► version: named, by label, or by the rollout's split ─► one of its replicas
                                  └─ not loaded, but may be: the request waits, one load for all who do

Plain values and dictionaries of this process: reading it costs no wait, no lock and no system call.
"""

import contextlib
import os
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from aruntime.admission.door import Door
from aruntime.admission.registry import Registry
from aruntime.admission.route import Route
from aruntime.admission.tenants import NOBODY, Tenant
from aruntime.base.errors import Draining, ModelError, ModelNotFound, ModelNotReady, PermissionDenied, ServingError
from aruntime.base.names import ModelRef
from aruntime.control import health
from aruntime.control.health import STABLE, EngineHealth, Health, missing
from aruntime.control.holding import Holding
from aruntime.control.lives import READY
from aruntime.control.rollout.traffic import goes_to_candidate, is_mirrored
from aruntime.model.embedding import Embedding
from aruntime.model.tokenizer import Tokenizer
from aruntime.queue.columns import ENGINE_ROW, Column
from aruntime.wire.control import Bounds, EngineKind, ModelState, ReplicaState, TensorSpec, VersionEntry

_RETRY_AFTER_S = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class ServedVersion:
    """A replica of a model version that this front end sends requests to."""

    name: str
    version: int
    created_s: int
    tokenizer: Tokenizer | None  # of a language model
    route: Route
    engine: EngineKind = "decoder"
    inputs: Sequence[TensorSpec] = ()
    outputs: Sequence[TensorSpec] = ()
    embedding: Embedding | None = None  # of a language model


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model as a request without a version means it; `created_s` is seconds since 1970, `version` 0 while none is."""

    name: str
    version: int
    created_s: int
    ready: bool


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for a model, and until when. `sticky` is what a rollout knows it by: its session, else the request."""

    tenant: Tenant = NOBODY
    sticky: str = ""
    deadline_s: float = float("inf")


class View:
    """The models, who may call them, the door to them, and how they are. `clock` is the monotonic one.

    `want(model, version)` asks the supervisor to load what a request waits for.
    """

    def __init__(self, door: Door, clock: Callable[[], float]) -> None:
        self.door = door
        self.registry = Registry()
        self.repository = ""
        self.supervised = False
        self.journal = "ok"
        self.certificate: str | None = None
        self.want: Callable[[str, int | None], None] = lambda _model, _version: None
        self._clock = clock
        self._random = random.Random()
        self._models: dict[str, ModelState] = {}
        self._known: dict[str, frozenset[int]] = {}  # versions by model
        self._ready: dict[str, frozenset[int]] = {}
        self._states: dict[int, ReplicaState] = {}
        self._served: dict[int, ServedVersion] = {}
        self._retired: set[int] = set()
        self._arriving: Counter[int] = Counter()  # by replica: requests on their way to its door
        self._since_s: dict[int, float] = {}  # since when it is served
        self._holding = Holding(clock)

    @property
    def draining(self) -> bool:
        """Whether the server is shutting down."""
        return self.door.draining

    @property
    def held(self) -> int:
        """Requests of this front end that wait until their model is loaded."""
        return len(self._holding)

    @property
    def now_s(self) -> float:
        """The moment, on the monotonic clock."""
        return self._clock()

    @property
    def tenants(self) -> Sequence[Tenant]:
        """Every tenant that is known."""
        return self.door.tenants

    def find(self, ref: ModelRef, caller: Caller) -> ServedVersion | None:
        """The replica that a request for `ref` goes to; None when it has to `wait` for one.

        ModelNotFound; PermissionDenied; ModelNotReady when none can serve now.
        """
        served = self._try_resolve(ref, caller)
        if served is None and (self.draining or not self._models[ref.name].on_demand):
            raise _not_ready(ref)  # why stays on this side: reasons name files and processes
        return served

    async def wait(self, ref: ModelRef, caller: Caller) -> None:
        """Have `ref` loaded and wait for it, up to the caller's deadline. ModelNotReady: in vain; Overloaded; …"""
        self.want(ref.name, self._version_of(ref, caller))
        await self._holding.until(
            ref.name,
            caller.tenant,
            caller.deadline_s,
            lambda: self._look_again(ref, caller),
            shared=len(self.tenants) > 2,
        )

    @contextlib.contextmanager
    def arriving(self, served: ServedVersion) -> Iterator[None]:
        """A request is on its way to the door of this replica, which is not unloaded meanwhile."""
        replica = served.route.replica
        self._arriving[replica] += 1
        try:
            yield
        finally:
            self._arriving[replica] -= 1

    def resolve(self, ref: ModelRef, tenant: Tenant = NOBODY) -> ServedVersion:
        """What `ref` means to `tenant` now. ModelNotFound; PermissionDenied; ModelNotReady when it cannot serve now."""
        served = self._try_resolve(ref, Caller(tenant))
        if served is None:
            raise _not_ready(ref)
        return served

    def shadow(self, served: ServedVersion, caller: Caller) -> ServedVersion | None:
        """Where a copy of this caller's request is to be sent, besides `served`."""
        model = self._models.get(served.name)
        split = model.split if model is not None else None
        if split is None or split.version == served.version:
            return None
        if not is_mirrored(split.salt, caller.tenant.name, caller.sticky, split.mirror):
            return None
        return self._replica_of(served.name, split.version)

    def models(self, tenant: Tenant | None = None) -> list[ModelEntry]:
        """Every model of the repository; only those that `tenant` may call."""
        return [self._entry(model) for model in self._models.values() if tenant is None or _may_call(tenant, model)]

    def versions(self, name: str, tenant: Tenant | None = None) -> list[VersionEntry]:
        """The versions of a model that are known; none when there is no such model, or it is not for `tenant`."""
        model = self._models.get(name)
        return list(model.versions) if model is not None and (tenant is None or _may_call(tenant, model)) else []

    def health(self) -> Health:
        """How everything is, as this front end sees it."""
        engines = [self._engine_health(state) for state in self._states.values()]
        reasons = [reason for model in self._models.values() if (reason := missing(model, engines))]
        if self.draining:
            reasons.append("the server is shutting down")
        if not self._models:
            reasons.append("no model is known yet")
        dependencies = {
            "supervisor": "ok" if self.supervised else "gone",
            "journal": self.journal if self.supervised else "gone",
            "repository": "ok" if os.access(self.repository, os.R_OK | os.X_OK) else "cannot be read",
        }
        if self.certificate is not None:
            dependencies["certificate"] = self.certificate
        return Health(live=True, ready=not reasons, reasons=reasons, engines=engines, dependencies=dependencies)

    def routes(self) -> Iterator[tuple[dict[str, str], Route]]:
        """The route to every served replica, with the labels of its metrics."""
        for number, served in self._served.items():
            yield {"model": served.name, "version": str(served.version), "replica": str(number)}, served.route

    def states(self) -> Iterator[ModelState]:
        """What the supervisor said last of every model."""
        yield from self._models.values()

    def model_is(self, model: ModelState) -> None:
        """The supervisor says how a model is; one without versions is gone."""
        self._known[model.model] = frozenset(entry.version for entry in model.versions)
        self._ready[model.model] = frozenset(entry.version for entry in model.versions if entry.state in READY)
        if model.versions:
            self._models[model.model] = model
        else:
            self._models.pop(model.model, None)
        self._holding.wake(model.model)

    def state_is(self, state: ReplicaState) -> None:
        """The supervisor says how a replica is, and what it takes."""
        if state.life == "stopped":
            self._states.pop(state.replica, None)
            return
        self._states[state.replica] = state
        if (served := self._served.get(state.replica)) is not None and state.bounds is not None:
            served.route.set_bounds(**state.bounds.model_dump(exclude={"itl_s"}))

    def bounds(self, replica: int) -> Bounds:
        """What the supervisor said last of what a replica takes. ValueError when it has not."""
        state = self._states.get(replica)
        if state is None or state.bounds is None:
            raise ValueError("nothing was said of what it takes")
        return state.bounds

    def serve(self, served: ServedVersion) -> None:
        """Requests for this version go to its route from now on."""
        self._served[served.route.replica] = served
        self._since_s[served.route.replica] = self._clock()
        self.door.attach(served.route)
        self._holding.wake(served.name)

    def retire(self, replica: int) -> None:
        """Nothing new goes to this replica; what is there goes on."""
        self._retired.add(replica)

    def is_left(self, replica: int) -> bool:
        """Whether nothing of this front end is on a replica, nor on its way to it."""
        served = self._served.get(replica)
        return served is None or (self._arriving[replica] == 0 and served.route.in_flight_here == 0)

    def withdraw(self, replica: int) -> None:
        """A replica is gone: its requests end with ModelError; Draining: it was retired, and they took too long."""
        error: ServingError = ModelError("the engine stopped while it computed this request")
        if replica in self._retired:
            error = Draining("the model was unloaded before the answer was complete", retry_after_s=_RETRY_AFTER_S)
        self._retired.discard(replica)
        if self._served.pop(replica, None) is not None:
            self.door.detach(replica, error)

    def lose_supervisor(self) -> None:
        """Nobody keeps the engines any more: they have ended with their supervisor."""
        self.supervised = False
        for replica in list(self._served):
            self.withdraw(replica)
        self._states.clear()
        models, self._models = list(self._models), {}
        for model in models:
            self._holding.wake(model)

    @property
    def settled(self) -> bool:
        """Whether the supervisor has come to an end with every model, and this front end sends to all that is ready."""
        ready = (state for state in self._states.values() if state.life == "ready")
        return (
            bool(self._models)
            and not any(model.pending for model in self._models.values())
            and all(state.replica in self._served for state in ready)
        )

    def _try_resolve(self, ref: ModelRef, caller: Caller) -> ServedVersion | None:
        """What `ref` means to the caller; None when that cannot serve now."""
        model = self._models.get(ref.name)
        if model is None or ref.adapter:
            raise ModelNotFound(f"no model {_text(ref)!r}", param="model")
        if not _may_call(caller.tenant, model):
            raise PermissionDenied(f"the model {_text(ref)!r} is not for this tenant", param="model")
        version = ref.version if ref.version is not None else _named(model, ref, caller)
        if (version is None and ref.label) or (version is not None and version not in self._known[ref.name]):
            raise ModelNotFound(f"no model {_text(ref)!r}", param="model")
        if version is None:
            return None
        served = self._replica_of(ref.name, version)
        stable = model.labels.get(STABLE)
        if served is None and ref.version is None and ref.label is None and stable is not None:
            served = self._replica_of(ref.name, stable)  # the rollout's candidate is away: the stable version answers
        return served

    def _replica_of(self, name: str, version: int) -> ServedVersion | None:
        """Of two replicas chosen by chance the one with less in flight; none of a version that is about to leave."""
        if version not in self._ready.get(name, ()):
            return None
        ready = [
            served
            for replica, served in self._served.items()
            if served.name == name and served.version == version and replica not in self._retired
        ]
        if len(ready) < 2:
            return ready[0] if ready else None
        return min(self._random.sample(ready, 2), key=lambda served: served.route.table.sum(Column.IN_FLIGHT))

    def _look_again(self, ref: ModelRef, caller: Caller) -> ServedVersion | None:
        """What it waits for, if it is there. ModelNotReady when it waits in vain."""
        if self.supervised and not self.draining:
            if (served := self._try_resolve(ref, caller)) is not None:
                return served
            if not _is_in_vain(self._models[ref.name], self._version_of(ref, caller)):
                return None
        raise _not_ready(ref)

    def _version_of(self, ref: ModelRef, caller: Caller) -> int | None:
        return ref.version if ref.version is not None else _named(self._models[ref.name], ref, caller)

    def _entry(self, model: ModelState) -> ModelEntry:
        stable = model.labels.get(STABLE, 0)
        created_s = next((entry.created_s for entry in model.versions if entry.version == stable), 0)
        return ModelEntry(model.model, stable, created_s, ready=self._replica_of(model.model, stable) is not None)

    def _engine_health(self, state: ReplicaState) -> EngineHealth:
        served = self._served.get(state.replica)
        if served is None:
            reason = state.reason or "joining"
            return EngineHealth(state.model, state.version, state.replica, False, 0, 0.0, reason)
        table = served.route.table
        turned_s = max(self._since_s[state.replica], table.get(ENGINE_ROW, Column.HEARTBEAT_US) / 1e6)
        idle_s = max(0.0, self._clock() - turned_s)
        ok = idle_s < health.PROGRESS_S_MAX
        reason = "" if ok else f"no progress for {idle_s:.1f} s"
        steps = table.get(ENGINE_ROW, Column.STEPS)
        return EngineHealth(state.model, state.version, state.replica, ok, steps, idle_s, reason)


def _named(model: ModelState, ref: ModelRef, caller: Caller) -> int | None:
    """The version that a label means, or no word at all: then the rollout's split decides."""
    split = None if ref.label is not None else model.split
    if split is not None and goes_to_candidate(split.salt, caller.tenant.name, caller.sticky, split.share):
        return split.version
    return model.labels.get(ref.label or STABLE)


def _is_in_vain(model: ModelState, version: int | None) -> bool:
    """Whether a version, or every one, has failed, or found no room."""
    entries = [entry for entry in model.versions if version in (None, entry.version)]
    return all(entry.state in ("failed", "quarantined") or _refused(entry) for entry in entries)


def _refused(entry: VersionEntry) -> bool:
    """Whether there was no memory for it."""
    return entry.state == "verified" and bool(entry.reason)


def _may_call(tenant: Tenant, model: ModelState) -> bool:
    return model.callers is None or tenant.name in model.callers


def _not_ready(ref: ModelRef) -> ServingError:
    return ModelNotReady(f"the model {_text(ref)!r} is not ready", retry_after_s=_RETRY_AFTER_S)


def _text(ref: ModelRef) -> str:
    selector = f"@{ref.version or ref.label}" if ref.version or ref.label else f":{ref.adapter}" if ref.adapter else ""
    return f"{ref.name}{selector}"
