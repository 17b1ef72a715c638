"""Memory of one device: what is set aside for model versions before they load, and who gives way to whom.

    reserve(key) ──► Granted(cache_bytes)   it is set aside, before anything is loaded
                 ──► Evict(keys)            `leave` these, unload them, `release` them, and reserve again
                 ──► Refused(reason)        it would not fit, whoever left that may leave

What is set aside never adds up to more than `bytes_max`. A pure state machine: it reads no clock and unloads nobody.
"""

from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

from aruntime.model.footprint import Footprint

Key = TypeVar("Key", bound=Hashable)

_TOLD_MAX = 8  # of those who hold memory, in a message


@dataclass(frozen=True, slots=True)
class Granted:
    """The memory is set aside, with so much of it for the cache."""

    cache_bytes: int


@dataclass(frozen=True, slots=True)
class Evict(Generic[Key]):
    """There is room once these have left, and whoever leaves already; the least recently used first, perhaps nobody.

    Nothing is set aside meanwhile.
    """

    keys: list[Key]


@dataclass(frozen=True, slots=True)
class Refused:
    """There is no room; `reason` says what is needed, what there is, and who holds it."""

    reason: str


@dataclass(slots=True)
class _Resident:
    bytes: int
    used_s: float
    pinned: bool = False
    busy: bool = True
    leaves: bool = False


class Memory(Generic[Key]):
    """Who has how much of one device. A key is whatever names one replica of a model version.

    A resident that has just been granted memory is on its way in: busy, until `busy(key, False)` says otherwise.
    """

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self._residents: dict[Key, _Resident] = {}

    @property
    def bytes_used(self) -> int:
        """What is set aside now."""
        return sum(resident.bytes for resident in self._residents.values())

    @property
    def bytes_left(self) -> int:
        """What nobody has."""
        return self.bytes_max - self.bytes_used

    def __contains__(self, key: Key) -> bool:
        return key in self._residents

    def bytes_of(self, key: Key) -> int:
        """What is set aside for `key`; 0 when it is not resident."""
        return self._residents[key].bytes if key in self._residents else 0

    def reserve(self, key: Key, footprint: Footprint, now_s: float) -> "Granted | Evict[Key] | Refused":
        """Set memory aside for `key`: the whole cache if there is room, else what is left, never less than its floor.

        ValueError when it has some already.
        """
        if key in self._residents:
            raise ValueError(f"{key} is resident")
        if footprint.bytes_min <= self.bytes_left:
            cache_bytes = min(footprint.cache_bytes, self.bytes_left - footprint.fixed_bytes)
            self._residents[key] = _Resident(footprint.fixed_bytes + cache_bytes, now_s)
            return Granted(cache_bytes)
        leaving = sum(resident.bytes for resident in self._residents.values() if resident.leaves)
        victims = self._victims(footprint.bytes_min - self.bytes_left - leaving)
        return Refused(self._refusal(footprint)) if victims is None else Evict(victims)

    def release(self, key: Key) -> None:
        """It has left memory; nothing happens when it was not there."""
        self._residents.pop(key, None)

    def use(self, key: Key, now_s: float) -> None:
        """A request went to it."""
        resident = self._residents[key]
        resident.used_s = max(resident.used_s, now_s)

    def pin(self, key: Key, pinned: bool) -> None:
        """Whether it stays whatever others need."""
        self._residents[key].pinned = pinned

    def busy(self, key: Key, busy: bool) -> None:
        """Whether it is on its way in, or serves what must not be interrupted."""
        self._residents[key].busy = busy

    def leave(self, key: Key) -> None:
        """It is on its way out, until it is released: nobody else has to leave for the room that it makes."""
        self._residents[key].leaves = True

    def _victims(self, wanted_bytes: int) -> list[Key] | None:
        """Who has to leave to make so much room, the least recently used first; None: all who may are not enough."""
        victims: list[Key] = []
        may_leave = iter(self._may_leave())
        while wanted_bytes > 0:
            key = next(may_leave, None)
            if key is None:
                return None
            victims.append(key)
            wanted_bytes -= self._residents[key].bytes
        # The last was needed; of those before it the most recently used stay if there is room without them.
        for key in victims[-2::-1]:
            if wanted_bytes + self._residents[key].bytes <= 0:
                wanted_bytes += self._residents[key].bytes
                victims.remove(key)
        return victims

    def _may_leave(self) -> list[Key]:
        stays = ((resident.pinned or resident.busy or resident.leaves) for resident in self._residents.values())
        free = [key for key, fixed in zip(self._residents, stays, strict=True) if not fixed]
        return sorted(free, key=lambda key: self._residents[key].used_s)

    def _refusal(self, footprint: Footprint) -> str:
        holders = sorted(self._residents.items(), key=lambda item: -item[1].bytes)
        told = [f"{key} {in_words(resident.bytes)}{_why(resident)}" for key, resident in holders[:_TOLD_MAX]]
        more = [f"{len(holders) - _TOLD_MAX} more"] if len(holders) > _TOLD_MAX else []
        return (
            f"needs {in_words(footprint.bytes_min)} ({in_words(footprint.weight_bytes)} weights, "
            f"{in_words(footprint.workspace_bytes)} workspace, {in_words(footprint.cache_bytes_min)} cache at least); "
            f"{in_words(self.bytes_left)} of {in_words(self.bytes_max)} are free"
            + (f"; held by {', '.join(told + more)}" if holders else "")
        )


def _why(resident: _Resident) -> str:
    return " (pinned)" if resident.pinned else " (busy)" if resident.busy else " (leaving)" if resident.leaves else ""


def in_words(count: int) -> str:
    """So many bytes: "1.5 GiB"."""
    size, units = float(count), iter(("B", "KiB", "MiB", "GiB"))
    for unit in units:
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:.4g} TiB"
