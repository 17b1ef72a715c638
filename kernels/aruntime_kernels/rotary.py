"""Turn queries and keys by their position.

    first'  = first * cos - second * sin        first, second: the halves of a head (the NeoX pairing)
    second' = second * cos + first * sin

Shapes: T tokens, Hq and Hk heads of D; the table has a row [cos (D/2) | sin (D/2)] for each position, in float32, with
every scaling of frequencies and of attention already in it.
Bytes: 2 * T * (Hq + Hk) * D * itemsize + 4 * T * D.
Source: Su et al., "RoFormer", 2021.
"""

import torch

from aruntime_kernels import _check, cpu
from aruntime_kernels._triton import OPTIONS, jit, tl, triton


def rotary(query: torch.Tensor, key: torch.Tensor, positions: torch.Tensor, cos_sin: torch.Tensor) -> None:
    """Turn `query` ([T, Hq, D]) and `key` ([T, Hk, D]) in place, by rows `positions` ([T]) of `cos_sin` ([P, D])."""
    if query.is_cuda:
        rotary_triton(query, key, positions, cos_sin)
    else:
        cpu.rotary(query, key, positions, cos_sin)


def rotary_triton(query: torch.Tensor, key: torch.Tensor, positions: torch.Tensor, cos_sin: torch.Tensor) -> None:
    """As `rotary`, by the Triton kernel: one program a token and head."""
    tokens, query_heads, size = query.shape
    _check.shape("query", query, (tokens, query_heads, size))
    _check.shape("key", key, (tokens, key.shape[1], size))
    _check.ints("positions", positions, tokens)
    _check.shape("cos_sin", cos_sin, (cos_sin.shape[0], size))
    _rotary_kernel[(tokens, query_heads + key.shape[1])](
        query,
        key,
        positions,
        cos_sin,
        query.stride(0),
        query.stride(1),
        key.stride(0),
        key.stride(1),
        query_heads,
        HALF=size // 2,
        BLOCK=triton.next_power_of_2(size // 2),
        num_warps=1,
        **OPTIONS,
    )


@jit
def _rotary_kernel(
    query,
    key,
    positions,
    cos_sin,
    query_stride,
    query_head_stride,
    key_stride,
    key_head_stride,
    query_heads,
    HALF: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = column < HALF
    row = tl.load(positions + token).to(tl.int64) * (2 * HALF)
    cos = tl.load(cos_sin + row + column, mask=inside, other=0.0)
    sin = tl.load(cos_sin + row + HALF + column, mask=inside, other=0.0)
    if head < query_heads:
        place = query + token * query_stride + head * query_head_stride + column
    else:
        place = key + token * key_stride + (head - query_heads) * key_head_stride + column
    first = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(place + HALF, mask=inside, other=0.0).to(tl.float32)
    tl.store(place, (first * cos - second * sin).to(query.dtype.element_ty), mask=inside)
    tl.store(place + HALF, (second * cos + first * sin).to(query.dtype.element_ty), mask=inside)


def rotary_reference(query: torch.Tensor, key: torch.Tensor, positions: torch.Tensor, cos_sin: torch.Tensor) -> None:
    """What `rotary` means, in the plainest torch."""
    cos, sin = cos_sin[positions.long(), None, :].chunk(2, dim=-1)
    for tensor in (query, key):
        first, second = tensor.float().chunk(2, dim=-1)
        tensor.copy_(torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1))
