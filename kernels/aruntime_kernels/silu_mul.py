"""The gate of a gated feed-forward layer: silu of the first half times the second half.

    out[t, i] = g / (1 + exp(-g)) * u,   g = gate_up[t, i], u = gate_up[t, I + i]

Shapes: T rows, I columns out.
Bytes: 3 * T * I * itemsize, judged against a plain copy.
Source: Shazeer, "GLU Variants Improve Transformer", 2020 (SwiGLU).
"""

import torch

from aruntime_kernels import _check, cpu
from aruntime_kernels._triton import OPTIONS, jit, tl, triton

_BLOCK = 1024


def silu_mul(gate_up: torch.Tensor, out: torch.Tensor) -> None:
    """Write silu(`gate_up`[:, :I]) * `gate_up`[:, I:] ([T, 2I]) to `out` ([T, I]).

    ValueError names the tensor whose shape or type is wrong.
    """
    if gate_up.is_cuda:
        silu_mul_triton(gate_up, out)
    else:
        cpu.silu_mul(gate_up, out)


def silu_mul_triton(gate_up: torch.Tensor, out: torch.Tensor) -> None:
    """As `silu_mul`, by the Triton kernel: one program a row and block of columns."""
    rows, size = out.shape
    _check.shape("gate_up", gate_up, (rows, 2 * size))
    _check.shape("out", out, (rows, size), gate_up.dtype)
    _silu_mul_kernel[(rows, triton.cdiv(size, _BLOCK))](
        gate_up, out, gate_up.stride(0), out.stride(0), size, BLOCK=_BLOCK, num_warps=4, **OPTIONS
    )


@jit
def _silu_mul_kernel(gate_up, out, in_stride, out_stride, size, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < size
    gate = tl.load(gate_up + row * in_stride + column, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * in_stride + size + column, mask=inside, other=0.0).to(tl.float32)
    value = gate / (1.0 + tl.exp(-gate)) * up
    tl.store(out + row * out_stride + column, value.to(out.dtype.element_ty), mask=inside)


def silu_mul_reference(gate_up: torch.Tensor, out: torch.Tensor) -> None:
    """What `silu_mul` means, in the plainest torch."""
    gate, up = gate_up.float().chunk(2, dim=-1)
    out.copy_(torch.nn.functional.silu(gate) * up)
