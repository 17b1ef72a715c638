"""What a version takes of a device's memory, before it is loaded."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of weights, of everything beside them, and of the cache: the least and what would be used."""

    weight_bytes: int
    workspace_bytes: int
    cache_bytes_min: int
    cache_bytes: int

    @property
    def fixed_bytes(self) -> int:
        """What it takes without its cache."""
        return self.weight_bytes + self.workspace_bytes

    @property
    def bytes_min(self) -> int:
        """What it cannot do without."""
        return self.fixed_bytes + self.cache_bytes_min
