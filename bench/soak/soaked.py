"""What one soak has shown, and what of it must not be."""

from collections import Counter
from dataclasses import dataclass, field

from load import Sample

TOKENS = 32  # of a good stream
SPARE_DESCRIPTORS = 4  # of one process


@dataclass(frozen=True, slots=True)
class Look:
    """The server at one moment, by process where it is of processes."""

    at_s: float
    rss_bytes: dict[str, int]
    descriptors: dict[str, int]
    in_flight: float
    paused: float
    blocks_free: float


@dataclass(slots=True)
class Soaked:
    """What one run has shown."""

    machine: str
    minutes: float
    rate: float
    before: Look
    calm: list[Sample] = field(default_factory=list)
    beset: list[Sample] = field(default_factory=list)  # with the misbehaving
    looks: list[Look] = field(default_factory=list)  # of that time
    done: Counter[str] = field(default_factory=Counter)  # by the misbehaving
    busy: dict[str, float] = field(default_factory=dict)  # cores, by phase
    after: Look | None = None

    @property
    def faults(self) -> list[str]:
        """What must not be, whatever the machine."""
        assert self.after is not None
        lost = Counter(f"{one.status} {one.code}".strip() for one in (*self.calm, *self.beset) if not is_whole(one))
        found = [f"{count} good streams failed: {how}" for how, count in lost.items()]
        if self.after.in_flight:
            found.append(f"{self.after.in_flight:g} sequences are still in flight")
        if self.after.blocks_free != self.before.blocks_free:
            found.append(f"{self.before.blocks_free - self.after.blocks_free:g} blocks were not given back")
        for process, count in self.after.descriptors.items():
            if count > self.before.descriptors.get(process, 0) + SPARE_DESCRIPTORS:
                found.append(f"{process} has {count} descriptors open, and had {self.before.descriptors.get(process)}")
        return found


def is_whole(sample: Sample) -> bool:
    """Whether all of a good stream came."""
    return sample.ok and sample.tokens == TOKENS
