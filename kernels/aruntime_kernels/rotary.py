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
    """Turn `query` ([T, Hq, D]) and `key` ([T, Hk, D]) in place by `positions` ([T] int32), rows of `cos_sin` ([P, D]).

    ValueError names the tensor whose shape or type is wrong. A GPU cannot raise for a position past the table: such a
    token becomes 0.
    """
    if query.is_cuda:
        rotary_triton(query, key, positions, cos_sin)
    else:
        cpu.rotary(query, key, positions, cos_sin)


def rotary_triton(query: torch.Tensor, key: torch.Tensor, positions: torch.Tensor, cos_sin: torch.Tensor) -> None:
    """As `rotary`, by the Triton kernel: one program a token, for its queries and its keys."""
    tokens, query_heads, size = query.shape
    key_heads = key.shape[1]
    _check.shape("query", query, (tokens, query_heads, size))
    _check.shape("key", key, (tokens, key_heads, size), query.dtype)
    _check.ints("positions", positions, tokens)
    _check.shape("cos_sin", cos_sin, (cos_sin.shape[0], size), torch.float32)
    if size % 2 or not cos_sin.is_contiguous():
        raise ValueError(f"cos_sin: want a contiguous [P, D] with an even D, got {list(cos_sin.shape)}")
    _rotary_kernel[(tokens,)](
        query,
        key,
        positions,
        cos_sin,
        query.stride(0),
        query.stride(1),
        key.stride(0),
        key.stride(1),
        cos_sin.shape[0],
        QUERY_HEADS=query_heads,
        BLOCK_QUERY_HEADS=triton.next_power_of_2(query_heads),
        KEY_HEADS=key_heads,
        BLOCK_KEY_HEADS=triton.next_power_of_2(key_heads),
        HALF=size // 2,
        BLOCK=triton.next_power_of_2(size // 2),
        num_warps=4,
        **OPTIONS,
    )


@jit
def _turn(place, head_stride, cos, sin, HEADS: tl.constexpr, BLOCK_HEADS: tl.constexpr, HALF: tl.constexpr):
    """Turn the heads of one token, in place."""
    column = tl.arange(0, cos.shape[0])
    head = tl.arange(0, BLOCK_HEADS)[:, None].to(tl.int64)
    inside = (head < HEADS) & (column < HALF)[None, :]
    place += head * head_stride + column[None, :]
    first = tl.load(place, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(place + HALF, mask=inside, other=0.0).to(tl.float32)
    tl.store(place, (first * cos - second * sin).to(place.dtype.element_ty), mask=inside)
    tl.store(place + HALF, (second * cos + first * sin).to(place.dtype.element_ty), mask=inside)


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
    rows,
    QUERY_HEADS: tl.constexpr,
    BLOCK_QUERY_HEADS: tl.constexpr,
    KEY_HEADS: tl.constexpr,
    BLOCK_KEY_HEADS: tl.constexpr,
    HALF: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    position = tl.load(positions + token).to(tl.int64)
    column = tl.arange(0, BLOCK)
    inside = (column < HALF) & (position >= 0) & (position < rows)
    cos = tl.load(cos_sin + position * (2 * HALF) + column, mask=inside, other=0.0)
    sin = tl.load(cos_sin + position * (2 * HALF) + HALF + column, mask=inside, other=0.0)
    _turn(query + token * query_stride, query_head_stride, cos, sin, QUERY_HEADS, BLOCK_QUERY_HEADS, HALF)
    _turn(key + token * key_stride, key_head_stride, cos, sin, KEY_HEADS, BLOCK_KEY_HEADS, HALF)


def rotary_reference(query: torch.Tensor, key: torch.Tensor, positions: torch.Tensor, cos_sin: torch.Tensor) -> None:
    """What `rotary` means, in the plainest torch."""
    cos, sin = cos_sin[positions.long(), None, :].chunk(2, dim=-1)
    for tensor in (query, key):
        first, second = tensor.float().chunk(2, dim=-1)
        tensor.copy_(torch.cat((first * cos - second * sin, second * cos + first * sin), dim=-1))
