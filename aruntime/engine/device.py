"""Between the host's memory and the device's: neither way waits for what the device computes."""

import torch

from aruntime.engine.parts import Array


def put(values: Array, device: str | torch.device) -> torch.Tensor:
    """An array of a plan, on the device."""
    return torch.from_numpy(values).to(device, non_blocking=True)


def fetch(tensor: torch.Tensor) -> torch.Tensor:
    """A copy on the host, whole once the step has run; on a CPU the tensor itself."""
    if tensor.is_cpu:
        return tensor
    return torch.empty_like(tensor, device="cpu", pin_memory=True).copy_(tensor, non_blocking=True)
