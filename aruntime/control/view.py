"""What a front end knows of the models, for http to read. The agent (`aruntime.control.agent`) keeps it up to date.

Plain values and dictionaries of this process: reading it costs no wait, no lock and no system call.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from aruntime.admission.door import Door
from aruntime.admission.registry import Registry
from aruntime.admission.route import Route
from aruntime.admission.tenants import NOBODY, Tenant
from aruntime.base.errors import ModelError, ModelNotFound, ModelNotReady, PermissionDenied
from aruntime.base.names import ModelRef
from aruntime.model.tokenizer import Tokenizer
from aruntime.queue.columns import ENGINE_ROW, Column
from aruntime.wire.control import Bounds, EngineKind, ReplicaState, TensorSpec

# An engine's loop turns at least every quarter of a second at rest, and after every step.
PROGRESS_S_MAX = 5.0
_RETRY_AFTER_S = 2.0


@dataclass(frozen=True, slots=True, eq=False)
class ServedVersion:
    """A model version that this front end sends requests to."""

    name: str
    version: int
    created_s: int
    tokenizer: Tokenizer
    route: Route
    engine: EngineKind = "decoder"
    inputs: Sequence[TensorSpec] = ()
    outputs: Sequence[TensorSpec] = ()


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """A model version of the repository; `created_s` is seconds since 1970."""

    name: str
    version: int
    created_s: int
    ready: bool


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """Whether one engine makes progress: `idle_s` since its loop last turned, `reason` when it is not ok."""

    model: str
    version: int
    replica: int
    ok: bool
    steps: int
    idle_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Health:
    """`ready`: every model is served and no engine stands still; `reasons` says what is missing."""

    live: bool
    ready: bool
    reasons: list[str]
    engines: list[EngineHealth]
    dependencies: dict[str, str]


class View:
    """The models, who may call them, the door to them, and how they are. `clock` is the monotonic one."""

    def __init__(self, door: Door, clock: Callable[[], float]) -> None:
        self.door = door
        self.registry = Registry()
        self.repository = ""
        self.supervised = False
        self._clock = clock
        self._states: dict[int, ReplicaState] = {}
        self._served: dict[int, ServedVersion] = {}
        self._since_s: dict[int, float] = {}  # since when it is served

    @property
    def draining(self) -> bool:
        """Whether the server is shutting down."""
        return self.door.draining

    @property
    def now_s(self) -> float:
        """The moment, on the monotonic clock."""
        return self._clock()

    @property
    def tenants(self) -> Sequence[Tenant]:
        """Every tenant that is known."""
        return self.door.tenants

    def resolve(self, ref: ModelRef, tenant: Tenant = NOBODY) -> ServedVersion:
        """The version that `ref` means to `tenant`.

        ModelNotFound; PermissionDenied when the tenant may not call it; ModelNotReady when it cannot serve now.
        """
        known = [
            state
            for state in self._states.values()
            if state.model == ref.name and ref.version in (None, state.version) and not (ref.label or ref.adapter)
        ]
        if not known:
            raise ModelNotFound(f"no model {_text(ref)!r}", param="model")
        known = [state for state in known if _may_call(tenant, state)]
        if not known:
            raise PermissionDenied(f"the model {_text(ref)!r} is not for this tenant", param="model")
        for state in known:
            if state.replica in self._served:
                return self._served[state.replica]
        # Why stays on this side: reasons name files and processes.
        raise ModelNotReady(f"the model {_text(ref)!r} is not ready", retry_after_s=_RETRY_AFTER_S)

    def models(self, tenant: Tenant | None = None) -> list[ModelEntry]:
        """Every model version of the repository that is served or should be; only those that `tenant` may call."""
        return [
            ModelEntry(state.model, state.version, state.created_s, state.replica in self._served)
            for state in self._states.values()
            if tenant is None or _may_call(tenant, state)
        ]

    def health(self) -> Health:
        """How everything is, as this front end sees it."""
        engines = [self._engine_health(state) for state in self._states.values()]
        reasons = [f"{engine.model}@{engine.version}: {engine.reason}" for engine in engines if not engine.ok]
        if self.draining:
            reasons.append("the server is shutting down")
        if not engines:
            reasons.append("no model is known yet")
        dependencies = {
            "supervisor": "ok" if self.supervised else "gone",
            "repository": "ok" if os.access(self.repository, os.R_OK | os.X_OK) else "cannot be read",
        }
        return Health(live=True, ready=not reasons, reasons=reasons, engines=engines, dependencies=dependencies)

    def routes(self) -> Iterator[tuple[dict[str, str], Route]]:
        """The route to every served replica, with the labels of its metrics."""
        for number, served in self._served.items():
            yield {"model": served.name, "version": str(served.version), "replica": str(number)}, served.route

    def state_is(self, state: ReplicaState) -> None:
        """The supervisor says how a replica is, and what it takes."""
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

    def withdraw(self, replica: int) -> None:
        """A replica is gone: its requests end with ModelError."""
        if self._served.pop(replica, None) is not None:
            self.door.detach(replica, ModelError("the engine stopped while it computed this request"))

    def lose_supervisor(self) -> None:
        """Nobody keeps the engines any more: they have ended with their supervisor."""
        self.supervised = False
        for replica in list(self._served):
            self.withdraw(replica)
        self._states.clear()

    @property
    def settled(self) -> bool:
        """Whether every replica is served or has failed for good."""
        return bool(self._states) and all(
            state.replica in self._served or state.life == "failed" for state in self._states.values()
        )

    def _engine_health(self, state: ReplicaState) -> EngineHealth:
        served = self._served.get(state.replica)
        if served is None:
            reason = state.reason or "joining"
            return EngineHealth(state.model, state.version, state.replica, False, 0, 0.0, reason)
        table = served.route.table
        turned_s = max(self._since_s[state.replica], table.get(ENGINE_ROW, Column.HEARTBEAT_US) / 1e6)
        idle_s = max(0.0, self._clock() - turned_s)
        ok = idle_s < PROGRESS_S_MAX
        reason = "" if ok else f"no progress for {idle_s:.1f} s"
        steps = table.get(ENGINE_ROW, Column.STEPS)
        return EngineHealth(state.model, state.version, state.replica, ok, steps, idle_s, reason)


def _may_call(tenant: Tenant, state: ReplicaState) -> bool:
    return state.callers is None or tenant.name in state.callers


def _text(ref: ModelRef) -> str:
    selector = f"@{ref.version or ref.label}" if ref.version or ref.label else f":{ref.adapter}" if ref.adapter else ""
    return f"{ref.name}{selector}"
