"""Attention of one query a sequence over its keys and values in the paged cache.

    position p of sequence b  -->  cache row block_tables[b, p // block_tokens] * block_tokens + p % block_tokens

Shapes: B sequences, Hq query heads, Hkv kv heads (Hq = G * Hkv), D head size, N cache rows, M blocks a table.
Bytes: 2 * Hkv * D * itemsize * sum(context_len): every key and value once, for all G queries that share it.

A sequence is split at every CHUNK positions, wherever it stands, and the parts are merged in their order: a row's bits
are the same alone and in any step (flash decoding, Dao et al. 2023, with a fixed split). The grid is of the tables'
width and a program without work returns at once, so that one captured graph holds for every length.
"""

import torch

from aruntime_kernels import _check, cpu
from aruntime_kernels._triton import OPTIONS, jit, tl, triton

CHUNK = 256  # positions a program reads; the split that every result depends on
_TILE = 64
_LOG2E = 1.4426950408889634


def decode_workspace(sequences: int, heads: int, size: int, context_max: int, device: str) -> torch.Tensor:
    """Room for the parts of `sequences` rows up to `context_max` positions: [B, Hq, chunks, D + 2] float32."""
    return torch.empty(sequences, heads, triton.cdiv(context_max, CHUNK), size + 2, device=device)


def decode_attention(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    block_tables: torch.Tensor,
    context_len: torch.Tensor,
    out: torch.Tensor,
    *,
    scale: float,
    block_tokens: int,
    window: int = 0,
    partial: torch.Tensor | None = None,
) -> None:
    """Write softmax(scale * query . keys) . values of each row to `out` ([B, Hq, D], as `query`).

    `key_cache`, `value_cache`: [N, Hkv, D]. `block_tables` [B, M] and `context_len` [B] are int32; row b sees
    positions 0 to context_len[b] - 1, or the last `window` of them when that is not 0. A GPU needs `partial`, a
    `decode_workspace`.
    """
    if query.is_cuda:
        decode_attention_triton(
            query,
            key_cache,
            value_cache,
            block_tables,
            context_len,
            out,
            scale=scale,
            block_tokens=block_tokens,
            window=window,
            partial=partial,
        )
    else:
        cpu.decode_attention(
            query,
            key_cache,
            value_cache,
            block_tables,
            context_len,
            out,
            scale=scale,
            block_tokens=block_tokens,
            window=window,
        )


def decode_attention_triton(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    block_tables: torch.Tensor,
    context_len: torch.Tensor,
    out: torch.Tensor,
    *,
    scale: float,
    block_tokens: int,
    window: int = 0,
    partial: torch.Tensor | None = None,
) -> None:
    """As `decode_attention`, by the Triton kernels: a program for each row, kv head and chunk, then one to merge."""
    rows, heads, size = query.shape
    kv_heads = key_cache.shape[1]
    chunks = triton.cdiv(block_tables.shape[1] * block_tokens, CHUNK)
    _check.shape("out", out, (rows, heads, size))
    _check.shape("value_cache", value_cache, tuple(key_cache.shape))
    _check.ints("block_tables", block_tables, rows, block_tables.shape[1])
    _check.ints("context_len", context_len, rows)
    if partial is None or partial.shape[0] < rows or partial.shape[2] < chunks or partial.shape[3] != size + 2:
        raise ValueError(f"partial: want at least [{rows}, {heads}, {chunks}, {size + 2}], got {partial}")
    common = {
        "SIZE": size,
        "BLOCK_SIZE": triton.next_power_of_2(size),
        "CHUNK": CHUNK,
        "WINDOW": window,
        **OPTIONS,
    }
    group = heads // kv_heads
    _decode_kernel[(rows, kv_heads, chunks)](
        query,
        key_cache,
        value_cache,
        block_tables,
        context_len,
        out,
        partial,
        scale * _LOG2E,
        query.stride(0),
        query.stride(1),
        out.stride(0),
        out.stride(1),
        block_tables.stride(0),
        partial.stride(0),
        partial.stride(1),
        KV_HEADS=kv_heads,
        GROUP=group,
        BLOCK_GROUP=max(16, triton.next_power_of_2(group)),
        BLOCK_TOKENS=block_tokens,
        TILE=_TILE,
        num_warps=4,
        num_stages=2,
        **common,
    )
    _merge_kernel[(rows, heads)](
        context_len,
        out,
        partial,
        out.stride(0),
        out.stride(1),
        partial.stride(0),
        partial.stride(1),
        num_warps=2,
        **common,
    )


@jit
def _decode_kernel(
    query,
    key_cache,
    value_cache,
    block_tables,
    context_len,
    out,
    partial,
    scale,
    query_stride,
    query_head_stride,
    out_stride,
    out_head_stride,
    table_stride,
    partial_stride,
    partial_head_stride,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_GROUP: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    TILE: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    CHUNK: tl.constexpr,
    WINDOW: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    kv_head = tl.program_id(1).to(tl.int64)
    chunk = tl.program_id(2)
    context = tl.load(context_len + row)
    first = tl.maximum(context - WINDOW, 0) if WINDOW > 0 else 0
    start = chunk * CHUNK
    end = tl.minimum(start + CHUNK, context)
    if (start >= context) | (end <= first):
        return
    member = tl.arange(0, BLOCK_GROUP)  # the queries that share this kv head: rows of one matrix product
    column = tl.arange(0, BLOCK_SIZE)
    head = kv_head * GROUP + member
    real = (member < GROUP)[:, None] & (column < SIZE)[None, :]
    q = tl.load(query + row * query_stride + head[:, None] * query_head_stride + column[None, :], mask=real, other=0.0)
    top = tl.full([BLOCK_GROUP], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_GROUP], tl.float32)
    acc = tl.zeros([BLOCK_GROUP, BLOCK_SIZE], tl.float32)
    for tile in range(start, end, TILE):
        position = tile + tl.arange(0, TILE)
        seen = (position < end) & (position >= first)
        block = tl.load(block_tables + row * table_stride + position // BLOCK_TOKENS, mask=seen, other=0)
        # int64 before the multiply: row * stride passes 2**31 in large caches.
        place = (block.to(tl.int64) * BLOCK_TOKENS + position % BLOCK_TOKENS) * (KV_HEADS * SIZE) + kv_head * SIZE
        inside = seen[:, None] & (column < SIZE)[None, :]
        k = tl.load(key_cache + place[:, None] + column[None, :], mask=inside, other=0.0)
        v = tl.load(value_cache + place[:, None] + column[None, :], mask=inside, other=0.0)
        score = tl.dot(q, tl.trans(k).to(q.dtype)) * scale
        score = tl.where(seen[None, :], score, float("-inf"))
        higher = tl.maximum(top, tl.max(score, 1))
        safe = tl.where(higher == float("-inf"), 0.0, higher)  # a tile wholly before the window
        weight = tl.exp2(score - safe[:, None])
        shrink = tl.exp2(top - safe)
        total = total * shrink + tl.sum(weight, 1)
        acc = acc * shrink[:, None] + tl.dot(weight.to(v.dtype), v)
        top = higher
    if (start <= first) & (end == context):  # the only part
        to = out + row * out_stride + head[:, None] * out_head_stride + column[None, :]
        tl.store(to, (acc / total[:, None]).to(out.dtype.element_ty), mask=real)
    else:
        part = partial + row * partial_stride + head * partial_head_stride + chunk * (SIZE + 2)
        tl.store(part[:, None] + column[None, :], acc, mask=real)
        tl.store(part + SIZE, top, mask=member < GROUP)
        tl.store(part + SIZE + 1, total, mask=member < GROUP)


@jit
def _merge_kernel(
    context_len,
    out,
    partial,
    out_stride,
    out_head_stride,
    partial_stride,
    partial_head_stride,
    SIZE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    CHUNK: tl.constexpr,
    WINDOW: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    context = tl.load(context_len + row)
    first = tl.maximum(context - WINDOW, 0) // CHUNK if WINDOW > 0 else 0
    chunks = tl.cdiv(context, CHUNK)
    if chunks - first <= 1:
        return
    column = tl.arange(0, BLOCK_SIZE)
    inside = column < SIZE
    part = partial + row * partial_stride + head * partial_head_stride
    top = tl.full([], float("-inf"), tl.float32)
    total = tl.zeros([], tl.float32)
    acc = tl.zeros([BLOCK_SIZE], tl.float32)
    for chunk in range(first, chunks):
        at = part + chunk * (SIZE + 2)
        here = tl.load(at + SIZE)
        higher = tl.maximum(top, here)
        shrink, grow = tl.exp2(top - higher), tl.exp2(here - higher)
        total = total * shrink + tl.load(at + SIZE + 1) * grow
        acc = acc * shrink + tl.load(at + column, mask=inside, other=0.0) * grow
        top = higher
    to = out + row * out_stride + head * out_head_stride + column
    tl.store(to, (acc / total).to(out.dtype.element_ty), mask=inside)


def decode_attention_reference(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    block_tables: torch.Tensor,
    context_len: torch.Tensor,
    out: torch.Tensor,
    *,
    scale: float,
    block_tokens: int,
    window: int = 0,
    partial: torch.Tensor | None = None,
) -> None:
    """What `decode_attention` means, in the plainest torch."""
    group = query.shape[1] // key_cache.shape[1]
    for row in range(query.shape[0]):
        context = int(context_len[row])
        position = torch.arange(max(0, context - window) if window else 0, context, device=query.device)
        slot = block_tables[row].long()[position // block_tokens] * block_tokens + position % block_tokens
        key = key_cache[slot].float().repeat_interleave(group, dim=1)
        value = value_cache[slot].float().repeat_interleave(group, dim=1)
        weight = torch.softmax(torch.einsum("hd,phd->hp", query[row].float(), key) * scale, dim=-1)
        out[row] = torch.einsum("hp,phd->hd", weight, value).to(out.dtype)
