"""What this machine, or the cgroup that this process lives in, has of memory for models, when nobody says.

on a CPU    the least of: MemAvailable; for the cgroup and each above it, its limit less what it uses
on a GPU    all of the first one, as the driver's own tool says: to ask torch would cost this process a context there
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

from aruntime.model.footprint import Device

# The rest is for front ends, the page cache and what nobody reckoned with; on a GPU for other processes' contexts.
_SHARE, _SHARE_OF_GPU = 0.8, 0.9
_ASK_S_MAX = 10.0


class DeviceUnknown(ValueError):
    """Nobody can say how much memory the device has."""


def device_of(name: str) -> Device:
    """Where models run that are not built for one device: "auto" is a GPU when there is one."""
    return "cpu" if name == "cpu" or (name == "auto" and not Path("/dev/nvidia0").exists()) else "cuda"


def gpu_memory_bytes() -> int:
    """The budget for models on the GPU: 90 % of what it has. DeviceUnknown."""
    gpu = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0] or "0"
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits", f"--id={gpu}"]
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S_MAX, check=True).stdout
        return int(_SHARE_OF_GPU * (int(said.split()[0]) << 20))
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        raise DeviceUnknown("nvidia-smi does not say how much memory the GPU has: say it with --memory") from None


def memory_bytes() -> int:
    """The budget for models on this machine's CPU: 80 % of what is available now."""
    return int(_SHARE * available_bytes())


def available_bytes(root: Path = Path("/")) -> int:
    """What is available now. `root` is where proc and sys are found."""
    available = [_field(root / "proc" / "meminfo", "MemAvailable:") * 1024]
    available += [max(0, limit - used) for limit, used in _cgroups(root)]
    return min(available)


def _cgroups(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use of each cgroup that holds this process, version 2 and 1; what can be dropped at once is no use."""
    for line in (root / "proc" / "self" / "cgroup").read_text().splitlines():
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
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith(f"{name} ")), 0)
