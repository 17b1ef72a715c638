"""Scale rows to unit root mean square, after adding them to the residual stream.

    residual += x          (when a residual is given)
    out = residual / sqrt(mean(residual ** 2) + eps) * weight

Shapes: T rows of N. [T, H, D] is taken as H rows of D a token: the norm of each head of a query or key.
Bytes: T * N * itemsize, 2 read and 2 written with a residual, 1 and 1 without; judged against a plain copy.
Source: Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019. Sums are taken in float32.
"""

import torch

from aruntime_kernels import _check, cpu
from aruntime_kernels._triton import OPTIONS, jit, tl, triton


def rms_norm(
    x: torch.Tensor,
    weight: torch.Tensor,
    out: torch.Tensor,
    *,
    eps: float,
    residual: torch.Tensor | None = None,
) -> None:
    """Normalise the rows of `x` ([T, N] or [T, H, D]) into `out`, which may be `x`. `weight` is [N] or [D].

    `residual` ([T, N] of `x`'s type, changed in place; not with [T, H, D]) takes `x` in first, and that sum, as it is
    stored, is what is normalised. ValueError names the tensor whose shape or type is wrong.
    """
    if x.is_cuda:
        rms_norm_triton(x, weight, out, eps=eps, residual=residual)
    else:
        cpu.rms_norm(x, weight, out, eps=eps, residual=residual)


def rms_norm_triton(
    x: torch.Tensor,
    weight: torch.Tensor,
    out: torch.Tensor,
    *,
    eps: float,
    residual: torch.Tensor | None = None,
) -> None:
    """As `rms_norm`, by the Triton kernel: one program a row."""
    _check.shape("x", x, tuple(x.shape))
    _check.shape("out", out, tuple(x.shape), x.dtype)
    _check.shape("weight", weight, (x.shape[-1],))
    if residual is not None:
        _check.shape("residual", residual, (x.shape[0], x.shape[-1]), x.dtype)
        _check.shape("x", x, tuple(residual.shape))
    heads = x.shape[1] if x.dim() == 3 else 1
    size = x.shape[-1]
    block = triton.next_power_of_2(size)
    through = x if residual is None else residual
    _rms_norm_kernel[(x.shape[0] * heads,)](
        x,
        weight,
        out,
        through,
        x.stride(0),
        out.stride(0),
        through.stride(0),
        x.stride(1) if heads > 1 else 0,
        out.stride(1) if heads > 1 else 0,
        heads,
        eps,
        SIZE=size,
        BLOCK=block,
        RESIDUAL=residual is not None,
        num_warps=min(16, max(1, block // 512)),
        **OPTIONS,
    )


@jit
def _rms_norm_kernel(
    x,
    weight,
    out,
    residual,
    x_stride,
    out_stride,
    residual_stride,
    x_head_stride,
    out_head_stride,
    heads,
    eps,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    RESIDUAL: tl.constexpr,
):
    row = tl.program_id(0)
    token = (row // heads).to(tl.int64)
    head = (row % heads).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < SIZE
    value = tl.load(x + token * x_stride + head * x_head_stride + column, mask=inside, other=0.0)
    if RESIDUAL:
        place = residual + token * residual_stride + column
        value = value + tl.load(place, mask=inside, other=0.0)
        tl.store(place, value, mask=inside)
    wide = value.to(tl.float32)
    scale = 1.0 / tl.sqrt(tl.sum(wide * wide, 0) / SIZE + eps)
    gain = tl.load(weight + column, mask=inside, other=0.0).to(tl.float32)
    to = out + token * out_stride + head * out_head_stride + column
    tl.store(to, (wide * scale * gain).to(out.dtype.element_ty), mask=inside)


def rms_norm_reference(
    x: torch.Tensor,
    weight: torch.Tensor,
    out: torch.Tensor,
    *,
    eps: float,
    residual: torch.Tensor | None = None,
) -> None:
    """What `rms_norm` means, in the plainest torch."""
    if residual is not None:
        x = residual.add_(x)
    wide = x.float()
    out.copy_(wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps) * weight.float())
