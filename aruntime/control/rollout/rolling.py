"""Drives a rollout: makes true what it wants, and tells it what happens. The rules are those of `machine.py`.

at each tick   readings of both versions ──► Rollout ──► wanted ──► load, unload, labels, golden questions
each change    ──► the journal: where it is now, and why, in the audit trail
"""

from collections.abc import Callable, Coroutine
from typing import Any

from aruntime.control.health import STABLE
from aruntime.control.host import Host
from aruntime.control.lives import NotPossible
from aruntime.control.rollout.gates import Observation, Verdict
from aruntime.control.rollout.machine import Rollout
from aruntime.control.rollout.observed import Tally, read
from aruntime.control.rollout.stages import Record
from aruntime.control.version import Version
from aruntime.queue.table import Table
from aruntime.wire.control import Probed, Split

CANARY = "canary"
# Of a version that cannot be loaded; the next try may find more memory.
_TRY_AGAIN_S = 5.0

Spawn = Callable[[Coroutine[Any, Any, Any]], Any]


class Rolling:
    """One rollout under way. `on_change()` is called when it has moved on; `spawn` does work beside everything else."""

    def __init__(
        self,
        record: Record,
        stable: Version,
        candidate: Version,
        host: Host,
        spawn: Spawn,
        on_change: Callable[[], None],
    ) -> None:
        self.rollout = Rollout(record)
        self.stable = stable
        self.candidate = candidate
        self._host = host
        self._spawn = spawn
        self._on_change = on_change
        self._saved: Record | None = None
        self._seen = {version.number: _Seen() for version in (stable, candidate)}
        self._deaths = (stable.deaths, candidate.deaths)
        self._coming: set[int] = set()  # versions that are being loaded for it
        self._leaving: set[int] = set()
        self._tried_s: dict[int, float] = {}
        self._asking = False
        self._told_ready = False
        self._save("begun" if record.stage == "preparing" else "resumed after a restart of the server")

    @property
    def over(self) -> bool:
        """Whether it has come to an end, and everything is as it wants it."""
        at_rest = not (self._coming or self._leaving or self._missing() or self._superfluous())
        return self.rollout.record.over and at_rest

    @property
    def split(self) -> Split | None:
        """Who goes to the candidate now; nobody while it is not ready."""
        return self.rollout.wanted.split if self.candidate.ready else None

    @property
    def holds(self) -> bool:
        """Whether requests wait while it loads one of the versions."""
        return self.rollout.wanted.hold

    @property
    def verdicts(self) -> list[Verdict]:
        """What the gates said last."""
        return self.rollout.verdicts

    def steer(self, to: str, actor: str) -> None:
        """An operator pauses, resumes, promotes or rolls back. NotPossible."""
        reason = f"{to} by {actor}"
        match to:
            case "pause":
                self.rollout.pause(reason)
            case "resume":
                self.rollout.resume()
            case "promote":
                if self.rollout.record.ready and not self.candidate.up:
                    raise NotPossible(f"{self.candidate.model}@{self.candidate.number} does not answer now")
                self.rollout.promote(reason)
            case _:
                self.rollout.roll_back(reason)
        self._settle(actor)

    def tick(self, now_s: float) -> None:
        """Look, and go on."""
        self._tell_deaths()
        tried = self.candidate.number in self._tried_s and self.candidate.number not in self._coming
        if tried and self.candidate.life.state in ("failed", "quarantined"):
            self.rollout.fail(f"{self.candidate.life.state}: {self.candidate.life.reason}")
        elif self.candidate.ready and not self._told_ready:
            self._told_ready = True
            self.rollout.ready(golden=self.candidate.has_golden)
        stable, candidate = (self._seen[version.number].look(version) for version in (self.stable, self.candidate))
        if not self._missing() and self.candidate.up:
            self.rollout.tick(now_s, candidate, stable)
        self._settle("rollout")
        self._make_true(now_s)

    def _settle(self, actor: str) -> None:
        """Keep what has changed, and let everybody know."""
        if self.rollout.record != self._saved:
            self._save(self.rollout.record.reason, actor)
            self._on_change()

    def _make_true(self, now_s: float) -> None:
        """Have what is superfluous leave; then what is missing come; then the golden questions asked."""
        for version in self._wanted():
            version.pin(True)  # the way back must not be given to another model
        for version in self._superfluous():
            if version.number not in self._leaving:
                drain_s = self._host.settings.drain_timeout_s
                self._begin(self._leaving, version, version.unload(drain_s, "the rollout is done with it"))
        for version in [] if self._superfluous() else self._missing():
            if version.number not in self._coming and now_s - self._tried_s.get(version.number, 0) > _TRY_AGAIN_S:
                self._tried_s[version.number] = now_s
                self._begin(self._coming, version, version.load())
        if self.rollout.wanted.ask_golden and not self._asking and self.candidate.replicas:
            self._asking = True
            self.candidate.replicas[0].probe(self._answered)

    def _begin(self, working: set[int], version: Version, work: Coroutine[Any, Any, Any]) -> None:
        working.add(version.number)

        async def done() -> None:
            try:
                await work
            finally:
                working.discard(version.number)
                self._on_change()

        self._spawn(done())

    def _wanted(self) -> list[Version]:
        return [one for one in (self.stable, self.candidate) if one.number in self.rollout.wanted.loaded]

    def _missing(self) -> list[Version]:
        return [version for version in self._wanted() if not version.ready]

    def _superfluous(self) -> list[Version]:
        wanted = self._wanted()
        unwanted = (version for version in (self.stable, self.candidate) if version not in wanted)
        return [version for version in unwanted if version.resident or version.number in self._coming]

    def _answered(self, probed: Probed) -> None:
        """A probe that came to no result counts for nothing."""
        self._asking = False
        if probed.passed or probed.wrong:
            asked = max(1, probed.questions)
            self._seen[self.candidate.number].tally.ask(asked, asked - probed.wrong)

    def _tell_deaths(self) -> None:
        before, self._deaths = self._deaths, (self.stable.deaths, self.candidate.deaths)
        if self._deaths[0] > before[0]:
            self.rollout.stable_died()
        for _ in range(self._deaths[1] - before[1]):
            self.rollout.candidate_died()

    def _save(self, reason: str, actor: str = "rollout") -> None:
        before, record = self._saved, self.rollout.record
        self._saved = record
        subject = f"{self.candidate.model}@{self.candidate.number}"
        moved = before is None or _place(before) != _place(record)

        def write() -> None:
            self._host.journal.save_rollout(self.candidate.model, record.model_dump_json())
            if moved:
                self._host.journal.record(actor, "rollout", subject, stage_of(record), reason)
            if record.over:
                self._save_labels(record)

        self._host.journal.attempt(write)

    def _save_labels(self, record: Record) -> None:
        """With the end of a rollout, not after it: a server that is killed in between would never move them."""
        journal, model = self._host.journal, self.candidate.model
        if record.stage == "complete":
            journal.set_label(model, STABLE, record.candidate)
        if journal.labels(model).get(CANARY) == record.candidate:
            journal.drop_label(model, CANARY)


def _place(record: Record) -> tuple[str, int, bool]:
    """Where it is: what an entry of the audit trail is worth."""
    return record.stage, record.step, record.paused


class _Seen:
    """What was counted of one version, as its engines come and go."""

    def __init__(self) -> None:
        self.tally = Tally()
        self._last: list[Table] = []
        self._gone: list[Table] = []

    def look(self, version: Version) -> Observation:
        """All of it, now. A table is read a last time one look after its engine died: its front ends knew by then."""
        now = version.tables()
        for table in [*now, *self._gone]:
            self.tally.see(table, read(table))
        for table in self._gone:
            self.tally.end(table)
        self._last, self._gone = now, [table for table in self._last if table not in now]
        return self.tally.total


def stage_of(record: Record) -> str:
    """Where it is, in words: "canary 25 %"."""
    share = f" {100 * record.policy.steps[record.step]:g} %" if record.stage == "canary" else ""
    return f"{record.stage.replace('_', ' ')}{share}{', paused' if record.paused else ''}"
