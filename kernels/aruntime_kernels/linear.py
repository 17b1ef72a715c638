"""Multiply rows of activations by a weight that was packed once, when the model was loaded.

    out[t, n] = bias[n] + sum over k of x[t, k] * weight[n, k]

Shapes: T rows, K inputs, N outputs.
Bytes: N * K * itemsize of the weight, read once by up to a dozen rows; 2 * T * N * K operations.
CPU: C++ over panels of 32 outputs (csrc/cpu/linear.hpp). GPU: torch's own matrix product.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from aruntime_kernels import cpu


@dataclass(frozen=True)
class DeviceWeight:
    """A weight as a GPU's matrix product takes it: [K, N], a view of the checkpoint's [N, K]."""

    transposed: Tensor
    bias: Tensor | None

    @property
    def shape(self) -> tuple[int, int]:
        return self.transposed.shape[1], self.transposed.shape[0]

    @property
    def nbytes(self) -> int:
        return self.transposed.nbytes + (0 if self.bias is None else self.bias.nbytes)


Weight = cpu.PackedWeight | DeviceWeight


def pack(weight: Tensor, bias: Tensor | None = None) -> Weight:
    """What `linear` needs of `weight` [N, K] and `bias` [N], on the device where they lie.

    On a CPU the weight is float32 or bfloat16 and is copied: the caller may let go of it. ValueError says what is off.
    """
    return cpu.PackedWeight(weight, bias) if weight.is_cpu else DeviceWeight(weight.t(), bias)


def linear(x: Tensor, weight: Weight, out: Tensor) -> None:
    """Write `x` [T, K] times the packed weight to `out` [T, N]; rows of both may be apart, elements may not.

    On a CPU x and out are float32 and sums are float32, each in the order of k: a row's bits depend on that row only.
    """
    if isinstance(weight, cpu.PackedWeight):
        cpu.linear(x, weight, out)
    elif weight.bias is None:
        torch.mm(x, weight.transposed, out=out)
    else:
        torch.addmm(weight.bias, x, weight.transposed, out=out)


def linear_reference(x: Tensor, weight: Tensor, bias: Tensor | None, out: Tensor) -> None:
    """What `linear` means, from the weight as it was before `pack`."""
    out.copy_(torch.nn.functional.linear(x, weight.to(x.dtype), None if bias is None else bias.to(x.dtype)))
