"""Attention of chunks of prompts over the paged cache, which holds the chunks' own keys and values already.

    query i of sequence s stands at position  context_len[s] - (query_start[s + 1] - query_start[s]) + i
    and sees positions p <= its own, and p > its own - window when there is a window

Shapes: T queries of S sequences, Hq query heads, Hkv kv heads, D head size, N cache rows, M blocks a table.
Arithmetic: 4 * Hq * D * (pairs seen); bytes: keys and values once for each tile of TILE_QUERIES queries and query head.
Keys are taken in tiles from the first position on, so a query's bits depend on its own position only. Source: Dao,
"FlashAttention-2", 2023; tiles of queries are found by bisection as in vLLM's unified attention.
"""

import torch

from aruntime_kernels import _check, cpu
from aruntime_kernels._triton import OPTIONS, jit, tl, triton

TILE_QUERIES = 64
_TILE_KEYS = 64
_LOG2E = 1.4426950408889634


def prefill_attention(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    block_tables: torch.Tensor,
    query_start: torch.Tensor,
    context_len: torch.Tensor,
    out: torch.Tensor,
    *,
    scale: float,
    block_tokens: int,
    window: int = 0,
) -> None:
    """Write softmax(scale * query . keys) . values of each query to `out` ([T, Hq, D], as `query`).

    `key_cache`, `value_cache`: [N, Hkv, D]. int32: `block_tables` [S, M]; `query_start` [S + 1], where each sequence's
    queries begin; `context_len` [S], its positions in the cache, this step's included.
    """
    operation = prefill_attention_triton if query.is_cuda else cpu.prefill_attention
    operation(
        query,
        key_cache,
        value_cache,
        block_tables,
        query_start,
        context_len,
        out,
        scale=scale,
        block_tokens=block_tokens,
        window=window,
    )


def prefill_attention_triton(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    block_tables: torch.Tensor,
    query_start: torch.Tensor,
    context_len: torch.Tensor,
    out: torch.Tensor,
    *,
    scale: float,
    block_tokens: int,
    window: int = 0,
) -> None:
    """As `prefill_attention`, by the Triton kernel: a program for each tile of queries and query head."""
    tokens, heads, size = query.shape
    sequences = block_tables.shape[0]
    _check.shape("out", out, (tokens, heads, size))
    _check.shape("value_cache", value_cache, tuple(key_cache.shape))
    _check.ints("block_tables", block_tables, sequences, block_tables.shape[1])
    _check.ints("query_start", query_start, sequences + 1)
    _check.ints("context_len", context_len, sequences)
    _prefill_kernel[(tokens // TILE_QUERIES + sequences, heads)](
        query,
        key_cache,
        value_cache,
        block_tables,
        query_start,
        context_len,
        out,
        scale * _LOG2E,
        sequences,
        query.stride(0),
        query.stride(1),
        out.stride(0),
        out.stride(1),
        block_tables.stride(0),
        KV_HEADS=key_cache.shape[1],
        GROUP=heads // key_cache.shape[1],
        BLOCK_TOKENS=block_tokens,
        QUERIES=TILE_QUERIES,
        TILE=_TILE_KEYS,
        SIZE=size,
        BLOCK_SIZE=triton.next_power_of_2(size),
        WINDOW=window,
        num_warps=4 if size <= 64 else 8,
        num_stages=3,  # two spill on sm_100
        **OPTIONS,
    )


@jit
def _prefill_kernel(
    query,
    key_cache,
    value_cache,
    block_tables,
    query_start,
    context_len,
    out,
    scale,
    sequences,
    query_stride,
    query_head_stride,
    out_stride,
    out_head_stride,
    table_stride,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    QUERIES: tl.constexpr,
    TILE: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    WINDOW: tl.constexpr,
):
    program = tl.program_id(0)
    head = tl.program_id(1).to(tl.int64)
    # Sequence s has the programs from query_start[s] // QUERIES + s on: at least as many as it has tiles.
    low = program * 0
    high = low + sequences
    while high - low > 1:
        middle = (low + high) // 2
        if tl.load(query_start + middle) // QUERIES + middle <= program:
            low = middle
        else:
            high = middle
    sequence = low.to(tl.int64)
    begin = tl.load(query_start + sequence)
    queries = tl.load(query_start + sequence + 1) - begin
    offset = (program - (begin // QUERIES + low)) * QUERIES
    if offset >= queries:
        return
    context = tl.load(context_len + sequence)
    member = offset + tl.arange(0, QUERIES)
    column = tl.arange(0, BLOCK_SIZE)
    standing = context - queries + member  # each query's position
    real = (member < queries)[:, None] & (column < SIZE)[None, :]
    token = (begin + member).to(tl.int64)
    from_query = query + token[:, None] * query_stride + head * query_head_stride + column[None, :]
    q = tl.load(from_query, mask=real, other=0.0)
    top = tl.full([QUERIES], float("-inf"), tl.float32)
    total = tl.zeros([QUERIES], tl.float32)
    acc = tl.zeros([QUERIES, BLOCK_SIZE], tl.float32)
    end = tl.minimum(context - queries + offset + QUERIES, context)
    first = 0
    if WINDOW > 0:
        first = tl.maximum(context - queries + offset - WINDOW + 1, 0) // TILE * TILE
    for tile in range(first, end, TILE):
        position = tile + tl.arange(0, TILE)
        known = position < end
        block = tl.load(block_tables + sequence * table_stride + position // BLOCK_TOKENS, mask=known, other=0)
        # int64 before the multiply: row * stride passes 2**31 in large caches.
        place = (block.to(tl.int64) * BLOCK_TOKENS + position % BLOCK_TOKENS) * (KV_HEADS * SIZE) + head // GROUP * SIZE
        inside = known[:, None] & (column < SIZE)[None, :]
        k = tl.load(key_cache + place[:, None] + column[None, :], mask=inside, other=0.0)
        v = tl.load(value_cache + place[:, None] + column[None, :], mask=inside, other=0.0)
        seen = position[None, :] <= standing[:, None]
        if WINDOW > 0:
            seen = seen & (position[None, :] > standing[:, None] - WINDOW)
        score = tl.dot(q, tl.trans(k).to(q.dtype)) * scale
        score = tl.where(seen, score, float("-inf"))
        higher = tl.maximum(top, tl.max(score, 1))
        safe = tl.where(higher == float("-inf"), 0.0, higher)  # nothing seen yet
        weight = tl.exp2(score - safe[:, None])
        shrink = tl.exp2(top - safe)
        total = total * shrink + tl.sum(weight, 1)
        acc = acc * shrink[:, None] + tl.dot(weight.to(v.dtype), v)
        top = higher
    to = out + token[:, None] * out_stride + head * out_head_stride + column[None, :]
    tl.store(to, (acc / total[:, None]).to(out.dtype.element_ty), mask=real)


def prefill_attention_reference(
    query: torch.Tensor,
    key_cache: torch.Tensor,
    value_cache: torch.Tensor,
    block_tables: torch.Tensor,
    query_start: torch.Tensor,
    context_len: torch.Tensor,
    out: torch.Tensor,
    *,
    scale: float,
    block_tokens: int,
    window: int = 0,
) -> None:
    """What `prefill_attention` means, in the plainest torch."""
    group = query.shape[1] // key_cache.shape[1]
    for sequence, context in enumerate(context_len.tolist()):
        begin, end = query_start[sequence : sequence + 2].tolist()
        position = torch.arange(context, device=query.device)
        slot = block_tables[sequence].long()[position // block_tokens] * block_tokens + position % block_tokens
        key = key_cache[slot].float().repeat_interleave(group, dim=1)
        value = value_cache[slot].float().repeat_interleave(group, dim=1)
        standing = position[context - (end - begin) :, None]
        seen = (position <= standing) & ((position > standing - window) if window else True)
        score = torch.einsum("qhd,phd->hqp", query[begin:end].float(), key) * scale
        weight = torch.softmax(score.masked_fill(~seen, float("-inf")), dim=-1)
        out[begin:end] = torch.einsum("hqp,phd->qhd", weight, value).to(out.dtype)
