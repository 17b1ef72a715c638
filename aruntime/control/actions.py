"""What operators want (`aruntime.wire.actions`), done; each change gets an entry in the audit trail.

outcome   done, refused (it is not possible now), failed (the detail says why), cut short (the server ended)
"""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from aruntime.base.errors import Draining, InvalidRequest, ModelNotFound, ModelNotReady
from aruntime.control.catalog import Catalog
from aruntime.control.front_ends import FRONT_ENDS, FrontEnds
from aruntime.control.health import STABLE
from aruntime.control.host import Host
from aruntime.control.lives import NotPossible
from aruntime.control.model import Model
from aruntime.control.rollout.rolling import CANARY
from aruntime.control.rollout.stages import Record
from aruntime.control.version import Version
from aruntime.queue.post import ENCLOSURE_BYTES_MAX
from aruntime.wire import actions
from aruntime.wire.actions import Action
from aruntime.wire.control import VERSIONS_MAX

_READS = (actions.Show, actions.ReadAudit, actions.ShowFrontEnds)
_REASON_CHARACTERS = 500


class Actions:
    """Acts on the models of a catalog, and on the front ends, if they are this server's."""

    def __init__(self, catalog: Catalog, host: Host, front_ends: FrontEnds | None = None) -> None:
        self._catalog = catalog
        self._host = host
        self._front_ends = front_ends
        self._doers: dict[type, Callable[[Any, str], Awaitable[dict[str, Any]]]] = {
            actions.Show: self._show,
            actions.LoadVersion: self._load,
            actions.UnloadVersion: self._unload,
            actions.ReleaseVersion: self._release,
            actions.SetLabel: self._set_label,
            actions.DropLabel: self._drop_label,
            actions.BeginRollout: self._begin_rollout,
            actions.SteerRollout: self._steer_rollout,
            actions.ReadAudit: self._read_audit,
            actions.ShowFrontEnds: self._show_front_ends,
            actions.RestartFrontEnds: self._restart_front_ends,
        }

    async def do(self, action: Action, *, actor: str, request_id: str = "") -> dict[str, Any]:
        """Do it; what came of it, and the journal's trouble, should it not be remembered.

        InvalidRequest, ModelNotFound, ModelNotReady, Draining: why not.
        """
        doer = self._doers[type(action)]
        if isinstance(action, _READS):
            return _short(await doer(action, actor))
        outcome, detail = "done", f"request {request_id}" if request_id else ""
        try:
            result = await doer(action, actor)
            trouble = self._host.journal.trouble
            return result | {"journal": trouble} if trouble else result
        except NotPossible as error:
            outcome, detail = "refused", str(error)
            raise InvalidRequest(str(error)) from None
        except asyncio.CancelledError:
            outcome, detail = "cut short", "the server ended"
            raise Draining("the server ends: it was not done") from None
        except Exception as error:
            outcome, detail = "failed", str(error)
            raise
        finally:
            self._host.journal.record(actor, action.kind, _subject(action), outcome, detail)

    async def _show(self, action: actions.Show, _actor: str) -> dict[str, Any]:
        shown = [self._model(action.model)] if action.model else list(self._catalog.models.values())
        memory = self._host.memory
        return {
            "repository": self._host.repository.identity,
            "models": [_facts(model, self._host) for model in shown],
            "memory": {"bytes_max": memory.bytes_max, "bytes_used": memory.bytes_used},
        }

    async def _load(self, action: actions.LoadVersion, _actor: str) -> dict[str, Any]:
        model = self._model(action.model)
        if action.version is None:
            version = await model.load_stable()
            tried = version or model.stable or next(reversed(model.versions.values()))
        else:
            tried = self._version(model, action.version)
            version = tried if await tried.load() else None
        model.place()
        if version is None:
            raise ModelNotReady(f"{tried.model}@{tried.number} is {tried.life.state}: {tried.life.reason}")
        await self._host.switchboard.taken_up(version.replicas)
        return _version_facts(version, self._host)

    async def _unload(self, action: actions.UnloadVersion, _actor: str) -> dict[str, Any]:
        model = self._model(action.model)
        chosen = list(model.versions.values()) if action.version is None else [self._version(model, action.version)]
        rolling = model.rolling
        if rolling is not None and (rolling.stable in chosen or rolling.candidate in chosen):
            raise NotPossible("a rollout is under way: promote it, or roll it back")
        if model.stable in chosen:
            model.away = "unloaded"
        for version in chosen:
            await version.unload(self._host.settings.drain_timeout_s, "an operator unloaded it")
        model.tell()
        return {"unloaded": [f"{version.model}@{version.number}" for version in chosen]}

    async def _release(self, action: actions.ReleaseVersion, _actor: str) -> dict[str, Any]:
        version = self._version(self._model(action.model), action.version)
        version.move("release", "an operator released it")
        return _version_facts(version, self._host)

    async def _set_label(self, action: actions.SetLabel, _actor: str) -> dict[str, Any]:
        model = self._model(action.model)
        self._version(model, action.version)
        if model.rolling is not None and action.label in (STABLE, CANARY):
            raise NotPossible("a rollout is under way: promote it, or roll it back")
        model.set_label(action.label, action.version)
        return {"model": model.name, "labels": model.labels}

    async def _drop_label(self, action: actions.DropLabel, _actor: str) -> dict[str, Any]:
        model = self._model(action.model)
        model.drop_label(action.label)
        return {"model": model.name, "labels": model.labels}

    async def _begin_rollout(self, action: actions.BeginRollout, actor: str) -> dict[str, Any]:
        model = self._model(action.model)
        self._version(model, action.version)
        model.begin_rollout(action.version, actor)
        return {"model": model.name, "rollout": _rollout_facts(model)}

    async def _steer_rollout(self, action: actions.SteerRollout, actor: str) -> dict[str, Any]:
        model = self._model(action.model)
        model.steer_rollout(action.to, actor)
        return {"model": model.name, "rollout": _rollout_facts(model)}

    async def _read_audit(self, action: actions.ReadAudit, _actor: str) -> dict[str, Any]:
        return {"audit": [asdict(entry) for entry in self._host.journal.audit(action.limit, action.before)]}

    async def _show_front_ends(self, _action: actions.ShowFrontEnds, _actor: str) -> dict[str, Any]:
        return self._own_front_ends.facts()

    async def _restart_front_ends(self, _action: actions.RestartFrontEnds, actor: str) -> dict[str, Any]:
        front_ends = self._own_front_ends
        self._catalog.spawn(front_ends.restart(actor))
        return front_ends.facts()

    @property
    def _own_front_ends(self) -> FrontEnds:
        if self._front_ends is None:
            raise InvalidRequest("the front ends were started by somebody else, who restarts them")
        return self._front_ends

    def _model(self, name: str) -> Model:
        if name not in self._catalog.models:
            raise ModelNotFound(f"there is no model {name}", param="model")
        return self._catalog.models[name]

    def _version(self, model: Model, number: int) -> Version:
        if number not in model.versions:
            raise ModelNotFound(f"there is no version {number} of {model.name}", param="version")
        return model.versions[number]


def _short(result: dict[str, Any]) -> dict[str, Any]:
    """`result`. InvalidRequest: it is longer than what can be handed to a front end."""
    length = len(json.dumps(result))
    if length > ENCLOSURE_BYTES_MAX:
        raise InvalidRequest(
            f"the answer has {length} bytes, at most {ENCLOSURE_BYTES_MAX} fit: ask for one model, or fewer entries"
        )
    return result


def _subject(action: Action) -> str:
    if isinstance(action, actions.RestartFrontEnds):
        return FRONT_ENDS
    fields = action.model_dump(exclude={"kind"}, exclude_none=True)
    version = f"@{fields['version']}" if "version" in fields else ""
    rest = [f"{name} {fields[name]}" for name in ("label", "to") if name in fields]
    return " ".join([f"{fields['model']}{version}", *rest])


def _facts(model: Model, host: Host) -> dict[str, Any]:
    newest_first = enumerate(reversed(model.versions.values()))
    shown = [version for age, version in newest_first if age < VERSIONS_MAX or version.resident]
    return {
        "name": model.name,
        "labels": model.labels,
        "rollout": _rollout_facts(model),
        "last_rollout": _last_rollout(model, host),
        "residency": model.settings.residency.model_dump(),
        "versions": [_version_facts(version, host) for version in reversed(shown)],
    }


def _rollout_facts(model: Model) -> dict[str, Any] | None:
    """The rollout under way, what its gates said last, and what its stage waits for."""
    if model.rolling is None:
        return None
    record, split = model.rolling.rollout.record, model.rolling.split
    return {
        "stable": record.stable,
        "candidate": record.candidate,
        "stage": record.stage,
        "paused": record.paused,
        "share": split.share if split is not None else 0.0,
        "mirror": split.mirror if split is not None else 0.0,
        "reason": record.reason[:_REASON_CHARACTERS],
        "missing": model.rolling.rollout.missing,
        "gates": [asdict(verdict) for verdict in model.rolling.verdicts],
    }


def _last_rollout(model: Model, host: Host) -> dict[str, Any] | None:
    """How the rollout ended that was the last one, if none is under way."""
    kept = host.journal.rollout(model.name) if model.rolling is None else None
    if kept is None:
        return None
    record = Record.model_validate_json(kept)
    return {
        "stable": record.stable,
        "candidate": record.candidate,
        "stage": record.stage,
        "reason": record.reason[:_REASON_CHARACTERS],
    }


def _version_facts(version: Version, host: Host) -> dict[str, Any]:
    return {
        "model": version.model,
        "version": version.number,
        "state": version.life.state,
        "reason": version.reason[:_REASON_CHARACTERS],
        "generation": version.life.generation,
        "bytes": host.memory.bytes_of(version.key),
        "in_flight": version.in_flight,
        "tokens_left": version.tokens_left,
        "replicas": [{"replica": replica.number, "life": replica.life} for replica in version.replicas],
    }
