"""The life of a model version on this server: one table. docs/lives.md is drawn from it.

An operation that takes time (verify, load, probe, drain) remembers the generation it began in; every `begin` starts a
new one, so what a superseded operation has to say when it ends is known to be late, and is dropped.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import get_args

from aruntime.wire.control import VersionState

STATES: tuple[VersionState, ...] = get_args(VersionState)

# state -> event -> the state after it.
TRANSITIONS: Mapping[VersionState, Mapping[str, VersionState]] = MappingProxyType(
    {
        "discovered": {"verify": "verified", "corrupt": "quarantined", "refuse": "failed"},
        "verified": {"admit": "admitted", "corrupt": "quarantined", "refuse": "failed"},
        "admitted": {"load": "loading", "unload": "unloading"},
        "loading": {"warm": "warming", "wrong": "quarantined", "fail": "failed", "unload": "unloading"},
        "warming": {"probe": "probing", "wrong": "quarantined", "fail": "failed", "unload": "unloading"},
        "probing": {"pass": "standby", "wrong": "quarantined", "fail": "failed", "unload": "unloading"},
        "standby": {"serve": "serving", "drain": "draining", "fail": "failed"},
        "serving": {"rest": "standby", "drain": "draining", "fail": "failed"},
        "draining": {"unload": "unloading", "fail": "failed"},
        "unloading": {"gone": "unloaded"},
        "unloaded": {"verify": "verified", "corrupt": "quarantined", "refuse": "failed"},
        "failed": {"verify": "verified", "corrupt": "quarantined", "refuse": "failed"},
        "quarantined": {"release": "discovered"},
    }
)

# An engine runs, or memory is set aside for one.
RESIDENT: frozenset[VersionState] = frozenset(
    ["admitted", "loading", "warming", "probing", "standby", "serving", "draining", "unloading"]
)
# It answers requests that name it.
READY: frozenset[VersionState] = frozenset(["standby", "serving"])


class NotPossible(ValueError):
    """An event that a version in this state cannot have; the message says so, in words for an operator."""


@dataclass(slots=True)
class Life:
    """Where one version is. `reason` says why it is there, when that is not plain."""

    state: VersionState = "discovered"
    reason: str = ""
    generation: int = 0

    def begin(self) -> int:
        """Start an operation; every earlier one is superseded. Returns its generation."""
        self.generation += 1
        return self.generation

    def can(self, event: str) -> bool:
        """Whether `event` is possible now."""
        return event in TRANSITIONS[self.state]

    def move(self, event: str, reason: str = "", *, generation: int | None = None) -> bool:
        """Go where `event` leads. False, and nothing changes: it comes of an operation that was superseded.

        NotPossible when there is no such way from here.
        """
        if generation is not None and generation != self.generation:
            return False
        if not self.can(event):
            raise NotPossible(f"a version that is {self.state} cannot {event}")
        self.state, self.reason = TRANSITIONS[self.state][event], reason
        return True

    def restart(self) -> None:
        """The server that kept it has ended, however it did, and its engines with it; its files may have changed."""
        if self.state in RESIDENT:
            self.state, self.reason = "unloaded", "the server ended"
        elif self.state == "verified":
            self.state, self.reason = "discovered", ""
        self.begin()
