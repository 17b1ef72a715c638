"""What all versions on one server share: settings, memory, journal, and the way to processes and front ends."""

from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from aruntime.control.journal import Journal
from aruntime.control.launcher import Launcher
from aruntime.control.repository import Repository
from aruntime.control.residency import Memory
from aruntime.control.switchboard import Switchboard
from aruntime.model.footprint import Device


class VersionKey(NamedTuple):
    """What memory and journal know a version by."""

    model: str
    version: int

    def __str__(self) -> str:
        return f"{self.model}@{self.version}"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the supervisor is asked to serve, and on what.

    `memory_bytes` is for all models together; None: most of what is free. `journal` None is one in memory, which
    nothing outlives. With a `trusted_key` only versions that it has signed are loaded.
    """

    repository: Path
    device: str  # auto, cpu, cuda
    threads: int  # of each engine
    cache_bytes: int  # of each model that does not say
    drain_timeout_s: float
    memory_bytes: int | None = None
    journal: Path | None = None
    trusted_key: Path | None = None


class Neighbours(Protocol):
    """All versions of this server, for one that needs memory, and a hand for work beside everything else."""

    def spawn(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Do it beside everything else."""

    def look(self) -> None:
        """Notice which of them are in use at this moment."""

    async def evict(self, keys: Sequence[VersionKey]) -> None:
        """Unload these, to make room for another; returns when they are gone."""


@dataclass(slots=True)
class Host:
    """One server."""

    settings: Settings
    repository: Repository
    launcher: Launcher
    switchboard: Switchboard
    memory: Memory[VersionKey]
    journal: Journal
    clock: Callable[[], float]
    device: Device = "cpu"
    replicas: int = 0

    def next_replica(self) -> int:
        """A number that no replica of this server ever had."""
        self.replicas += 1
        return self.replicas - 1
