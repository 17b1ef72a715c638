"""Checks that every operation makes of its tensors; a ValueError names the tensor and both sides' numbers."""

import torch


def shape(name: str, tensor: torch.Tensor, want: tuple[int, ...], *dtypes: torch.dtype) -> None:
    """Refuse another shape than `want`, a last dimension that is not contiguous, and a type that is not in `dtypes`."""
    if tuple(tensor.shape) != want:
        raise ValueError(f"{name}: want {list(want)}, got {list(tensor.shape)}")
    if want and want[-1] > 1 and tensor.stride(-1) != 1:
        raise ValueError(f"{name}: want a contiguous last dimension, got strides {list(tensor.stride())}")
    if dtypes and tensor.dtype not in dtypes:
        raise ValueError(f"{name}: want {' or '.join(_plain(dtype) for dtype in dtypes)}, got {_plain(tensor.dtype)}")


def ints(name: str, tensor: torch.Tensor, *want: int) -> None:
    """Refuse anything but int32 of that shape."""
    shape(name, tensor, want, torch.int32)


def cache(key_cache: torch.Tensor, value_cache: torch.Tensor, size: int) -> None:
    """Refuse caches that are not [N, H, `size`] both, of one type, without gaps."""
    shape("key_cache", key_cache, (*key_cache.shape[:2], size))
    shape("value_cache", value_cache, tuple(key_cache.shape), key_cache.dtype)
    for name, tensor in (("key_cache", key_cache), ("value_cache", value_cache)):
        if not tensor.is_contiguous():
            raise ValueError(f"{name}: want a contiguous tensor, got strides {list(tensor.stride())}")


def attention(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    out: torch.Tensor,
    *,
    scale: float,
    block_tokens: int,
    window: int,
) -> None:
    """Refuse what neither attention can take."""
    tokens, heads, size = query.shape
    shape("query", query, (tokens, heads, size))
    shape("out", out, (tokens, heads, size))
    cache(key_cache, value_cache, size)
    if heads % key_cache.shape[1]:
        raise ValueError(f"query: want a multiple of {key_cache.shape[1]} kv heads, got {heads} heads")
    if not scale > 0 or block_tokens < 1 or window < 0:
        raise ValueError(f"want scale > 0, block_tokens > 0, window >= 0, got {scale}, {block_tokens}, {window}")


def _plain(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
