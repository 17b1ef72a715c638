"""Checks that every operation makes of its tensors; a ValueError names the tensor and both shapes."""

import torch


def shape(name: str, tensor: torch.Tensor, want: tuple[int, ...]) -> None:
    """Refuse another shape than `want`, or a last dimension that is not contiguous."""
    if tuple(tensor.shape) != want:
        raise ValueError(f"{name}: want {list(want)}, got {list(tensor.shape)}")
    if want and want[-1] > 1 and tensor.stride(-1) != 1:
        raise ValueError(f"{name}: want a contiguous last dimension, got strides {list(tensor.stride())}")


def ints(name: str, tensor: torch.Tensor, *want: int) -> None:
    """Refuse anything but int32 of that shape."""
    shape(name, tensor, want)
    if tensor.dtype is not torch.int32:
        raise ValueError(f"{name}: want int32, got {tensor.dtype}")
