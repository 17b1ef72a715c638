"""A rollout: how a new version, the candidate, takes over from the stable one, or is sent back. Pure.

    events, the time, what was counted  ->  what is wanted: whose traffic goes where, which versions stay loaded

Whoever drives it (the supervisor) tells it events, and makes true what it wants: a value of the state and not an order,
so after a restart it is the same. Which stage follows which stands in `stages.py`.

A stage looks at a window. It ends when the window has lasted, enough requests of the candidate have ended and no gate
is breached; a breach sends the candidate back at once. A pause holds the stage and its share; the gates go on guarding.

The gates are looked at when 20, 40, 80 … requests of the candidate have ended, and when the stage is about to end. The
rollout's allowance for false alarms, 1 - confidence, is divided: evenly among its windows; of a window half to the last
look, and to the earlier ones a quarter, an eighth and so on (alpha spending). A window that is begun anew spends anew.
"""

from dataclasses import dataclass

from aruntime.control.lives import NotPossible
from aruntime.control.rollout.gates import FEW, Observation, Verdict, judge
from aruntime.control.rollout.stages import ENDS, TRANSITIONS, Record
from aruntime.wire.control import Split

_REASON_MAX = 2000  # of a record's reason


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be made true. Of the two versions, what is not in `loaded` may drain, before what is missing loads.

    `stable` is what a request without a version means, apart from those that `split` sends to the candidate. `hold`:
    they wait for a version that loads, and are not refused. `ask_golden`: the candidate's golden questions, once.
    """

    stable: int
    split: Split | None
    loaded: frozenset[int]
    hold: bool
    ask_golden: bool


@dataclass(slots=True)
class _Window:
    """Readings at its beginning, what was seen of the candidate since, and how many early looks have been taken."""

    begun_s: float
    candidate: Observation
    stable: Observation
    seen: Observation
    looks: int = 0


class Rollout:
    """One rollout, from a new or a kept record. NotPossible: an operator's event that it cannot have now.

    `verdicts` are those of the last look; `missing` says what the stage still waits for, as of the last tick. Times are
    of any monotonic clock.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self.verdicts: list[Verdict] = []
        self.missing = ""
        self._reference = record.reference
        self._window: _Window | None = None
        self._since_s: float | None = None  # since when it has been in its stage, not paused

    @property
    def share(self) -> float:
        """What of the requests without a version go to the candidate."""
        match self.record.stage:
            case "canary":
                return self.record.policy.steps[self.record.step]
            case "bake":
                return 1.0
            case _:
                return 0.0

    @property
    def wanted(self) -> Wanted:
        """What is to be made true now."""
        record, stage = self.record, self.record.stage
        mirror = record.policy.shadow_share if stage == "shadow" else 0.0
        split = Split(version=record.candidate, share=self.share, mirror=mirror, salt=record.salt)
        return Wanted(
            stable=record.candidate if stage == "complete" else record.stable,
            split=split if split.share or split.mirror else None,
            loaded=self._loaded(),
            hold=record.policy.strategy == "drain-first" and stage != "complete",
            ask_golden=self._window is not None and self._asks_golden and not self._window.seen.golden_asked,
        )

    def ready(self, *, golden: bool) -> None:
        """The candidate is ready; `golden`: it has golden questions. Said again after each time that it was loaded."""
        if not self.record.over:
            self._keep(ready=True, golden=golden)
            self._begin()

    def fail(self, reason: str) -> None:
        """The candidate cannot be served."""
        if not self.record.over:
            self._send_back(f"the candidate failed: {reason}")

    def candidate_died(self) -> None:
        """An engine of the candidate died. What it counted before counts."""
        if self.record.over:
            return
        self._keep(deaths=self.record.deaths + 1)
        if self.record.deaths > self.record.policy.deaths_max:
            self._send_back(f"engines of the candidate died {self.record.deaths} times")

    def stable_died(self) -> None:
        """An engine of the stable version died: this window tells nothing of what it is like."""
        self._window = None

    def pause(self, reason: str) -> None:
        """Stay in this stage, with its share."""
        self._live("paused")
        self._keep(paused=True, reason=reason)

    def resume(self) -> None:
        """Go on, with the window begun anew."""
        self._live("resumed")
        if self.record.paused:
            self._keep(paused=False, reason="resumed")
            self._since_s = self._window = None
            self._begin()

    def promote(self, reason: str) -> None:
        """Go to the next stage at once, whatever was seen; from the bake it is complete."""
        self._live("promoted")
        if not self.record.ready:
            raise NotPossible("a rollout whose candidate was never ready cannot be promoted")
        self._advance(reason)

    def roll_back(self, reason: str) -> None:
        """Send the candidate back; while it is still being prepared this is `abort`."""
        self._live("rolled back")
        self._send_back(reason)

    def abort(self, reason: str) -> None:
        """Give up before the candidate has served anybody."""
        self._go("abort", reason)

    def tick(self, now_s: float, candidate: Observation, stable: Observation) -> None:
        """Time has passed. The readings only ever grow: everything counted of a version since some moment of the past.

        To be called while both versions are as wanted; the first call in a stage begins its window.
        """
        if self.record.over:
            return
        if self.record.stage == "preparing" or self._reference is None:
            self._refer_to(stable)
        if self.record.stage == "preparing":
            return
        self._since_s = since_s = now_s if self._since_s is None else self._since_s
        if self._window is None:
            self._window = _Window(now_s, candidate, stable, Observation())
        window = self._window
        window.seen = candidate - window.candidate
        self._refer_to(stable - window.stable)
        if not (self._is_time_to_look(window) and self._breaches(window, self._alpha / 2 ** (window.looks + 1))):
            self._try_to_end(now_s, since_s, window)

    def _try_to_end(self, now_s: float, since_s: float, window: _Window) -> None:
        """Go on if this stage's window is over, or pause if it should have been long ago."""
        lasted_s, waited_s = now_s - window.begun_s, now_s - since_s
        self.missing = self._lacks(lasted_s, window.seen)
        if self.record.paused:
            return
        if not self.missing:
            if not self._breaches(window, self._alpha / 2):
                self._advance(f"{window.seen.requests} requests in {lasted_s:.0f} s without a breach")
        elif waited_s > self._lasts_s + self.record.policy.patience_s:
            self._keep(paused=True, reason=f"paused after {waited_s:.0f} s: {self.missing}")

    def _lacks(self, lasted_s: float, seen: Observation) -> str:
        """What this stage's window still lacks; empty when it has all."""
        policy = self.record.policy
        if lasted_s < self._lasts_s:
            return f"the window has lasted only {lasted_s:.0f} of {self._lasts_s:.0f} s"
        if self.record.stage != "bake" and seen.requests < policy.requests_min:
            return f"only {seen.requests} of {policy.requests_min} requests of the candidate have ended"
        if self._asks_golden and not seen.golden_asked:
            return "no golden question has been answered"
        return ""

    def _is_time_to_look(self, window: _Window) -> bool:
        """Whether there is twice as much to see as at the last look, or a golden answer is wrong."""
        due = window.looks
        while window.seen.requests >= FEW << due:
            due += 1
        has_grown, window.looks = due > window.looks, due
        return has_grown or window.seen.golden_passed < window.seen.golden_asked

    def _breaches(self, window: _Window, alpha: float) -> bool:
        """Look at the gates, and send the candidate back if one is breached."""
        self.verdicts = judge(self.record.policy, window.seen, self._reference, alpha)
        breach = next((one for one in self.verdicts if one.outcome == "breach"), None)
        if breach is not None:
            self._send_back(f"{breach.gate}: {breach.sentence}")
        return breach is not None

    def _refer_to(self, stable: Observation) -> None:
        if stable.requests >= self.record.policy.requests_min:
            self._reference = stable

    @property
    def _asks_golden(self) -> bool:
        return self.record.golden and self.record.policy.golden

    @property
    def _lasts_s(self) -> float:
        policy = self.record.policy
        return policy.bake_s if self.record.stage == "bake" else policy.window_s

    @property
    def _alpha(self) -> float:
        """What one window has of the allowance for false alarms."""
        policy = self.record.policy
        before_bake = 0 if policy.strategy == "drain-first" else len(policy.steps) + (policy.shadow_share > 0)
        return (1 - policy.confidence) / (before_bake + 1)

    def _loaded(self) -> frozenset[int]:
        record = self.record
        match record.stage:
            case "complete":
                return frozenset([record.candidate])
            case "rolled_back" | "aborted":
                return frozenset([record.stable])
            case _ if record.policy.strategy == "drain-first":
                return frozenset([record.candidate])
            case _:
                return frozenset([record.stable, record.candidate])

    def _begin(self) -> None:
        if self.record.stage == "preparing" and self.record.ready and not self.record.paused:
            self._advance("the candidate is ready")

    def _advance(self, reason: str) -> None:
        record, policy = self.record, self.record.policy
        match record.stage:
            case "preparing" if policy.strategy == "drain-first":
                self._go("switch", reason)
            case "preparing" if policy.shadow_share:
                self._go("mirror", reason)
            case "preparing" | "shadow":
                self._go("split", reason)
            case "canary" if record.step + 1 < len(policy.steps):
                self._go("widen", reason, step=record.step + 1)
            case "canary":
                self._go("settle", reason)
            case _:
                self._go("finish", reason)

    def _send_back(self, reason: str) -> None:
        self._go("abort" if self.record.stage == "preparing" else "back", reason)

    def _live(self, what: str) -> None:
        if self.record.over:
            raise NotPossible(f"a rollout that is {self.record.stage} cannot be {what}")

    def _go(self, event: str, reason: str, step: int | None = None) -> None:
        stage = TRANSITIONS[self.record.stage].get(event)
        if stage is None:
            raise NotPossible(f"a rollout that is {self.record.stage} cannot {event}")
        self._since_s = self._window = None
        self._keep(
            stage=stage,
            step=self.record.step if step is None else step,
            paused=self.record.paused and stage not in ENDS,
            reference=self._reference,
            reason=reason,
        )

    def _keep(self, **changes: object) -> None:
        if isinstance(reason := changes.get("reason"), str):
            changes["reason"] = reason[:_REASON_MAX]
        self.record = self.record.model_copy(update=changes)
