"""Write this step's keys and values into their blocks of the cache.

    token t  --slot_mapping[t]-->  cache row slot_mapping[t] = block * block_tokens + offset

Shapes: T tokens, N = blocks * block_tokens rows, H kv heads, D head size.
Bytes: 2 tensors * T * H * D * itemsize, read once, written once; no arithmetic, so it is judged against a plain copy.
"""

import torch

from aruntime_kernels import _check, cpu
from aruntime_kernels._triton import OPTIONS, jit, tl, triton

PAD_SLOT = -1  # a row that fills up a captured graph; it has no place in the cache


def store_kv(
    key: torch.Tensor,
    value: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
) -> None:
    """Copy `key[t]`, `value[t]` ([T, H, D]) to row `slot_mapping[t]` ([T] int32) of the caches ([N, H, D], in place).

    Rows with PAD_SLOT are skipped; two tokens must not share a slot. ValueError names the tensor whose shape or type is
    wrong. A GPU cannot raise for a slot past the cache: it writes nothing there.
    """
    if key.is_cuda:
        store_kv_triton(key, value, key_cache, value_cache, slot_mapping)
    else:
        cpu.store_kv(key, value, key_cache, value_cache, slot_mapping)


def store_kv_triton(
    key: torch.Tensor,
    value: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
) -> None:
    """As `store_kv`, by the Triton kernel: one program a token."""
    tokens, heads, size = key.shape
    _check.shape("key", key, (tokens, heads, size))
    _check.shape("value", value, (tokens, heads, size), key.dtype)
    _check.shape("key_cache", key_cache, (key_cache.shape[0], heads, size))
    _check.cache(key_cache, value_cache, size)
    _check.ints("slot_mapping", slot_mapping, tokens)
    _store_kv_kernel[(tokens,)](
        key,
        value,
        key_cache,
        value_cache,
        slot_mapping,
        key.stride(0),
        key.stride(1),
        value.stride(0),
        value.stride(1),
        key_cache.shape[0],
        HEADS=heads,
        SIZE=size,
        BLOCK=triton.next_power_of_2(heads * size),
        num_warps=4,
        **OPTIONS,
    )


@jit
def _store_kv_kernel(
    key,
    value,
    key_cache,
    value_cache,
    slot_mapping,
    key_stride,
    key_head_stride,
    value_stride,
    value_head_stride,
    slots,
    HEADS: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    token = tl.program_id(0).to(tl.int64)
    # int64 before the multiply: slot * stride passes 2**31 in caches over 2 Gi elements.
    slot = tl.load(slot_mapping + token).to(tl.int64)
    element = tl.arange(0, BLOCK)
    inside = (element < HEADS * SIZE) & (slot >= 0) & (slot < slots)
    head, column = element // SIZE, element % SIZE
    to = slot * (HEADS * SIZE) + element
    from_key = tl.load(key + token * key_stride + head * key_head_stride + column, mask=inside)
    from_value = tl.load(value + token * value_stride + head * value_head_stride + column, mask=inside)
    tl.store(key_cache + to, from_key.to(key_cache.dtype.element_ty), mask=inside)
    tl.store(value_cache + to, from_value.to(value_cache.dtype.element_ty), mask=inside)


def store_kv_reference(
    key: torch.Tensor,
    value: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    slot_mapping: torch.Tensor,
) -> None:
    """What `store_kv` means, in the plainest torch."""
    kept = slot_mapping != PAD_SLOT
    slots = slot_mapping[kept].long()
    key_cache[slots] = key[kept].to(key_cache.dtype)
    value_cache[slots] = value[kept].to(value_cache.dtype)
