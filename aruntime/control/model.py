"""One model on this server: its versions, the labels that name them, and the rollout under way.

stable ──► what a request without a version means        any other label ──► name@label
a label moves only to a version that is ready; what no label and no rollout names rests, and may be unloaded
"""

import os
import secrets
from typing import Literal

from pydantic import ValidationError

from aruntime.base import log
from aruntime.control.health import STABLE
from aruntime.control.host import Host, Neighbours
from aruntime.control.journal import VersionRecord
from aruntime.control.lives import RESIDENT, Life, NotPossible
from aruntime.control.rollout.rolling import CANARY, Rolling
from aruntime.control.rollout.stages import Record
from aruntime.control.settings import ModelSettings, VersionRefused
from aruntime.control.version import Version
from aruntime.control.watched import WatchedFile
from aruntime.wire.control import VERSIONS_MAX, ModelState, Split, VersionEntry

_REASON_CHARACTERS = 200


class Model:
    """Whatever changes of it is told to the front ends."""

    def __init__(self, name: str, host: Host, neighbours: Neighbours) -> None:
        self.name = name
        self.settings = ModelSettings()
        self.versions: dict[int, Version] = {}
        self.labels = host.journal.labels(name)
        self.pending = True
        self.away: Literal["", "unloaded", "evicted"] = ""  # by an operator, or for want of memory
        self.rolling: Rolling | None = None
        self.last_rollout = _record(host.journal.rollout(name))
        self._host = host
        self._neighbours = neighbours
        self._file = WatchedFile(host.repository.model_file(name))
        if self._file.path is not None and os.path.lexists(self._file.path):
            self._read_settings()

    @property
    def stable(self) -> Version | None:
        """What a request without a version means."""
        return self.versions.get(self.labels.get(STABLE, 0))

    @property
    def on_demand(self) -> bool:
        """Whether a request may wait until a version is loaded."""
        residency = self.settings.residency
        comes_and_goes = residency.load == "on-demand" or residency.idle_s is not None
        held = self.rolling is not None and self.rolling.holds
        return held or self.away == "evicted" or (comes_and_goes and self.away != "unloaded")

    @property
    def answers(self) -> bool:
        """Whether any version of it is ready."""
        return any(version.ready for version in self.versions.values())

    @property
    def split(self) -> Split | None:
        """What a rollout says of who goes where."""
        return self.rolling.split if self.rolling is not None else None

    def discover(self, numbers: list[int], kept: dict[int, VersionRecord]) -> list[Version]:
        """The repository holds these versions; those that are new here. `kept` is what the journal knows of them."""
        new = [number for number in numbers if number not in self.versions]
        for number in new:
            self.versions[number] = self._version(number, kept.get(number))
        for number in [number for number in self.versions if number not in numbers]:
            if not self.versions[number].resident and not self._rolls(number):
                del self.versions[number]
                self._host.journal.attempt(self._host.journal.forget_version, self.name, number)
        if new:
            self.versions = dict(sorted(self.versions.items()))
        self.tell()
        return [self.versions[number] for number in new]

    async def start(self) -> None:
        """Load what must be ready when the server starts."""
        if self.settings.residency.load == "at-start":
            await self.load_stable()
            await self._load_labelled()
        self._resume_rollout()
        self.pending = False
        self.place()
        for version in self.versions.values():  # that were published while no server ran
            if version.life.state == "discovered":
                self._neighbours.spawn(version.verify())

    async def load_stable(self) -> Version | None:
        """Load the stable version; while there is none, the newest one that can be. None: there is none."""
        self.away = ""
        for version in self._to_try():
            if await version.load():
                if STABLE not in self.labels:
                    self.set_label(STABLE, version.number)
                self.place()
                return version
        return None

    def set_label(self, label: str, number: int) -> None:
        """Name a version. NotPossible when it is not ready."""
        version = self.versions[number]
        if not version.ready:
            raise NotPossible(f"{self.name}@{number} is {version.life.state}: a label names versions that are ready")
        self.labels[label] = number
        self._host.journal.attempt(self._host.journal.set_label, self.name, label, number)
        self.place()

    def drop_label(self, label: str) -> None:
        """Forget a label. NotPossible for the stable one."""
        if label == STABLE:
            raise NotPossible("a model always has a stable version: name another, or unload the model")
        if self.labels.pop(label, None) is None:
            raise NotPossible(f"{self.name} has no label {label}")
        self._host.journal.attempt(self._host.journal.drop_label, self.name, label)
        self.place()

    def begin_rollout(self, number: int, actor: str) -> None:
        """Begin to replace the stable version. NotPossible: which of the conditions is not met."""
        stable, candidate = self.stable, self.versions[number]
        if self.rolling is not None:
            raise NotPossible(f"a rollout of {self.name}@{self.rolling.candidate.number} is under way")
        if stable is None or not stable.ready:
            raise NotPossible(f"{self.name} has no stable version that is ready: load one")
        if candidate is stable:
            raise NotPossible(f"{self.name}@{number} is the stable version")
        if candidate.life.state == "quarantined":
            raise NotPossible(f"{self.name}@{number} is quarantined: {candidate.life.reason}")
        record = Record(
            stable=stable.number, candidate=number, salt=secrets.randbits(62), policy=self.settings.rollout,
            reason=f"begun by {actor}",
        )  # fmt: skip
        self._roll(record)

    def steer_rollout(self, to: str, actor: str) -> None:
        """Pause, resume, promote or roll back the rollout under way. NotPossible."""
        if self.rolling is None:
            raise NotPossible(f"no rollout of {self.name} is under way")
        self.rolling.steer(to, actor)
        self.rolling.tick(self._host.clock())

    def place(self) -> None:
        """Let every ready version serve that a label or the rollout names, and the others rest; tell the front ends."""
        wanted = set(self.labels.values()) | ({self.split.version} if self.split is not None else set())
        for version in self.versions.values():
            if version.life.state == "standby" and version.number in wanted:
                version.move("serve")
            elif version.life.state == "serving" and version.number not in wanted:
                version.move("rest")
        self.tell()

    def may_load(self, number: int | None) -> bool:
        """Whether a request may have this version loaded: any other would let callers fill the memory."""
        held = self.rolling is not None and self.rolling.holds  # the rollout loads what they wait for
        return not held and (number is None or number in self.labels.values())

    def watch(self, now_s: float) -> None:
        """Look at everything that changes by itself."""
        if self._file.has_changed():
            self._read_settings()
        if self.rolling is not None:
            self.rolling.tick(now_s)
            if self.rolling.over:
                self.rolling = None
                for version in self.versions.values():
                    version.pin(self.settings.residency.pinned)
                self.place()
        elif self.settings.rollout.automatic and not self.pending:
            self._begin_by_itself()

    def idle(self, now_s: float) -> list[Version]:
        """What has had no request for as long as the settings allow."""
        idle_s = self.settings.residency.idle_s if self.rolling is None else None
        ready = (version for version in self.versions.values() if version.ready)
        return [version for version in ready if idle_s is not None and now_s - version.used_s > idle_s]

    def tell(self) -> None:
        """Say how it is."""
        self._host.switchboard.model_is(self._state())

    def _version(self, number: int, kept: VersionRecord | None) -> Version:
        life = Life() if kept is None else Life(kept.state, kept.reason, kept.generation)
        life.restart()  # none of them is in memory now
        version = Version(self.name, number, self._host, self._neighbours, life, self._version_changed)
        version.digest = kept.digest if kept is not None else ""
        return version

    def _rolls(self, number: int) -> bool:
        """Whether the rollout under way is about this version."""
        return self.rolling is not None and number in (self.rolling.stable.number, self.rolling.candidate.number)

    async def _load_labelled(self) -> None:
        """Load what other labels name; for a server that knows no label yet, those of the settings."""
        named = dict(self.labels) if len(self.labels) > 1 else self.labels | self.settings.labels
        rolls = self.last_rollout is not None and not self.last_rollout.over
        skipped = {STABLE, CANARY} if rolls else {STABLE}  # a rollout loads its candidate itself
        for label, number in named.items():
            if label not in skipped and number in self.versions and await self.versions[number].load():
                self.set_label(label, number)

    def _resume_rollout(self) -> None:
        """Go on where the server that ended was."""
        record = self.last_rollout
        if record is None or record.over:
            return
        if {record.stable, record.candidate} <= set(self.versions):
            self._roll(record)
        else:
            self._host.journal.attempt(self._host.journal.drop_rollout, self.name)
            log.warning("rollout.lost", model=self.name, candidate=record.candidate)

    def _roll(self, record: Record) -> None:
        stable, candidate = self.versions[record.stable], self.versions[record.candidate]
        self.rolling = Rolling(record, stable, candidate, self._host, self._neighbours.spawn, self._follow)
        self.rolling.tick(self._host.clock())

    def _follow(self) -> None:
        """Labels go where the rollout says."""
        assert self.rolling is not None
        self.last_rollout = self.rolling.rollout.record
        wanted, candidate = self.rolling.rollout.wanted, self.rolling.candidate
        if wanted.split is not None and candidate.ready:
            self.set_label(CANARY, candidate.number)
        elif wanted.split is None and self.labels.get(CANARY) == candidate.number:
            self.drop_label(CANARY)
        if wanted.stable != self.labels.get(STABLE) and self.versions[wanted.stable].ready:
            self.set_label(STABLE, wanted.stable)
        self.place()

    def _begin_by_itself(self) -> None:
        """A version newer than the stable one, and than the last that was tried, is there."""
        newest, stable = next(reversed(self.versions.values()), None), self.stable
        if newest is None or stable is None or not stable.ready or newest.number <= stable.number:
            return
        tried = self.last_rollout.candidate if self.last_rollout is not None else 0
        if newest.number > tried and newest.life.state == "verified":
            self.begin_rollout(newest.number, "the policy")

    def _to_try(self) -> list[Version]:
        if self.stable is not None:
            return [self.stable]
        first = self.settings.labels.get(STABLE, 0)
        return sorted(self.versions.values(), key=lambda version: (version.number == first, version.number))[::-1]

    def _read_settings(self) -> None:
        self._file.begin_reading()
        try:
            self.settings = self._host.repository.read_model(self.name)
        except VersionRefused as error:
            log.error("model.refused", model=self.name, reason=str(error))
            return
        log.info("model.read", model=self.name)
        for version in self.versions.values():
            version.rebind(self.settings.bounds, pinned=self.settings.residency.pinned)
        if self.versions:
            self.tell()

    def _version_changed(self, version: Version) -> None:
        life = version.life
        words = (life.state, life.reason, life.generation, version.digest)
        self._host.journal.attempt(self._host.journal.save_version, self.name, version.number, *words)
        self.tell()

    def _state(self) -> ModelState:
        shown = list(self.versions.values())
        resident = [version for version in shown if version.life.state in RESIDENT]
        newest = [version for version in shown if version not in resident][-(VERSIONS_MAX - len(resident)) :]
        return ModelState(
            model=self.name,
            callers=self.settings.callers,
            labels=dict(self.labels),
            split=self.split,
            on_demand=self.on_demand,
            required=not self.away and not self.on_demand,
            pending=self.pending,
            versions=sorted((self._entry(version) for version in newest + resident), key=lambda entry: entry.version),
        )

    def _entry(self, version: Version) -> VersionEntry:
        return VersionEntry(
            version=version.number,
            state=version.life.state,
            created_s=version.created_s,
            bytes=self._host.memory.bytes_of(version.key),
            reason=version.reason[:_REASON_CHARACTERS],
        )


def _record(kept: str | None) -> Record | None:
    """What the journal keeps of a rollout; None when there is none, or it is another server's words."""
    try:
        return Record.model_validate_json(kept) if kept is not None else None
    except ValidationError:
        log.warning("rollout.unreadable")
        return None
