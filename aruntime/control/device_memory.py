"""How much memory there is for models, when nobody says: asked once, when the server starts."""

import os
import subprocess
from pathlib import Path

from aruntime.control.machine import available_bytes

# The rest is for front ends, page cache, and whoever else is on the machine; on a GPU for other processes' contexts.
_SHARE_OF_HOST, _SHARE_OF_GPU = 0.8, 0.9
_ASK_S_MAX = 10.0


class DeviceUnknown(ValueError):
    """Nobody can say how much memory the device has."""


def is_cpu(device: str) -> bool:
    """Whether models run on a CPU here; "auto" is a GPU when there is one."""
    return device == "cpu" or (device == "auto" and not Path("/dev/nvidia0").exists())


def memory_bytes(device: str) -> int:
    """Most of what is free on the host, or of what the first GPU has. DeviceUnknown."""
    return int(available_bytes() * _SHARE_OF_HOST if is_cpu(device) else _gpu_bytes() * _SHARE_OF_GPU)


def _gpu_bytes() -> int:
    """What the driver's own tool says of the first GPU: to ask torch would cost this process a context there."""
    command = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits", "--id=0"]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0]
    if visible:
        command[-1] = f"--id={visible}"
    try:
        said = subprocess.run(command, capture_output=True, text=True, timeout=_ASK_S_MAX, check=True).stdout
        return int(said.split()[0]) << 20
    except (OSError, subprocess.SubprocessError, ValueError, IndexError):
        raise DeviceUnknown("nvidia-smi does not say how much memory the GPU has: say it with --memory") from None
