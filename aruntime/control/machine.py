"""What this machine, or the cgroup that this process lives in, has of memory.

available = the least of: MemAvailable; for the cgroup and each above it, its limit less what it uses
"""

from collections.abc import Iterator
from pathlib import Path


def available_bytes(root: Path = Path("/")) -> int:
    """What more could be taken now without anything being swapped or killed. `root`: where proc and sys are."""
    available = [_field(root / "proc" / "meminfo", "MemAvailable:") * 1024]
    return min(available + [max(0, limit - used) for limit, used in _cgroups(root)])


def _cgroups(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of each cgroup around this process, version 2 and 1; what could be dropped is not in use."""
    for line in _lines(root / "proc" / "self" / "cgroup"):
        _, controllers, path = line.split(":", 2)
        if not controllers:
            mount, files = root / "sys/fs/cgroup", ("memory.max", "memory.current", "inactive_file")
        elif "memory" in controllers.split(","):
            mount = root / "sys/fs/cgroup/memory"
            files = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
        else:
            continue
        limit_file, use_file, droppable = files
        for folder in _upwards(mount, path):
            limit, used = _number(folder / limit_file), _number(folder / use_file)
            if limit is not None and used is not None:
                yield limit, used - _field(folder / "memory.stat", droppable)


def _upwards(mount: Path, path: str) -> Iterator[Path]:
    """The folder of a cgroup and those above it. In a container the path may be the host's: then the mount is ours."""
    folder = mount / path.lstrip("/")
    while folder != mount and folder.is_relative_to(mount):
        yield folder
        folder = folder.parent
    yield mount


def _number(file: Path) -> int | None:
    """A file that is one number; None when it is not there or says "max"."""
    try:
        text = file.read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdecimal() else None


def _field(file: Path, name: str) -> int:
    """The number after `name` in a file of such lines; 0 when it is not there."""
    return next((int(line.split()[1]) for line in _lines(file) if line.startswith(f"{name} ")), 0)


def _lines(file: Path) -> list[str]:
    try:
        return file.read_text().splitlines()
    except OSError:
        return []
