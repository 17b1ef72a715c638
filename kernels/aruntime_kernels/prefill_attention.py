"""Attention of chunks of prompts over the paged cache, which holds the chunks' own keys and values already.

    query i of sequence s stands at position  context_len[s] - (query_start[s + 1] - query_start[s]) + i
    and sees positions p <= its own, and p > its own - window when there is a window

Shapes: T queries of S sequences, Hq query heads, Hkv kv heads, D head size, N cache rows, M blocks a table.
Arithmetic: 4 * Hq * D * (pairs seen); bytes: keys and values once for each tile of queries and kv head.

A program takes the queries of one tile with all the heads that share a kv head: the rows of one matrix product. Keys
come in tiles from the first position on, and a tile that a query does not see leaves its sums as they are: so a query's
bits depend on its own position only, not on where its prompt was cut. Only tiles on the diagonal are masked, or all of
them under a window. They equal decode_attention's to rounding, not to the bit: that one merges chunks.
Source: Dao, "FlashAttention-2", 2023; tiles of queries are found by bisection as in vLLM's unified attention.
"""

import torch

from aruntime_kernels import _check, cpu
from aruntime_kernels._attention import LOG2E, fold
from aruntime_kernels._triton import OPTIONS, jit, tl, triton


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
    queries begin, from 0 on; `context_len` [S], its positions in the cache, this step's included.
    ValueError names the tensor whose shape or type is wrong.
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
    """As `prefill_attention`, by the Triton kernel: a program for each tile of queries and kv head."""
    _check.attention(query, key_cache, value_cache, out, scale=scale, block_tokens=block_tokens, window=window)
    tokens, heads, size = query.shape
    kv_heads, sequences = key_cache.shape[1], block_tables.shape[0]
    _check.ints("block_tables", block_tables, sequences, block_tables.shape[1])
    _check.ints("query_start", query_start, sequences + 1)
    _check.ints("context_len", context_len, sequences)
    group = heads // kv_heads
    rows, tile = _tile(size, query.dtype)
    rows = max(rows, triton.next_power_of_2(group))
    queries = rows // group
    _prefill_kernel[(tokens // queries + sequences, kv_heads)](
        query,
        key_cache,
        value_cache,
        block_tables,
        query_start,
        context_len,
        out,
        scale * LOG2E,
        sequences,
        block_tables.shape[1],
        query.stride(0),
        query.stride(1),
        out.stride(0),
        out.stride(1),
        block_tables.stride(0),
        KV_HEADS=kv_heads,
        GROUP=group,
        ROWS=rows,
        QUERIES=queries,
        TILE=tile,
        SIZE=size,
        BLOCK_SIZE=triton.next_power_of_2(size),
        BLOCK_TOKENS=block_tokens,
        WINDOW=window,
        num_warps=8,
        num_stages=2,
        **OPTIONS,
    )


def _tile(size: int, dtype: torch.dtype) -> tuple[int, int]:
    """Rows (queries times heads of a group) and positions of a tile: what registers hold on every target."""
    padded = triton.next_power_of_2(size)
    if padded >= 256:
        return 64, 16
    if padded != size or dtype.itemsize > 2:
        return 64, 32  # masks take registers, and so do wider elements
    return (128, 64) if size == 128 else (128, 32)


@jit(do_not_specialize=["sequences", "width"])  # a prompt alone must run the code of several
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
    width,
    query_stride,
    query_head_stride,
    out_stride,
    out_head_stride,
    table_stride,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    ROWS: tl.constexpr,
    QUERIES: tl.constexpr,
    TILE: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    WINDOW: tl.constexpr,
):
    program = tl.num_programs(0) - 1 - tl.program_id(0)  # the last tiles see most, so they go first
    kv_head = tl.program_id(1).to(tl.int64)
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
    # A context longer than its table would read past the table's end.
    context = tl.minimum(tl.load(context_len + sequence), width * BLOCK_TOKENS)
    member = tl.arange(0, ROWS)
    mine = offset + member // GROUP
    head = kv_head * GROUP + member % GROUP
    column = tl.arange(0, BLOCK_SIZE)
    real = ((member < QUERIES * GROUP) & (mine < queries))[:, None] & (column < SIZE)[None, :]
    token = (begin + mine).to(tl.int64)
    from_query = query + token[:, None] * query_stride + head[:, None] * query_head_stride + column[None, :]
    q = tl.load(from_query, mask=real, other=0.0)
    top = tl.full([ROWS], float("-inf"), tl.float32)
    total = tl.zeros([ROWS], tl.float32)
    acc = tl.zeros([ROWS, BLOCK_SIZE], tl.float32)
    earliest = context - queries + offset  # the position of the tile's first query
    standing = (context - queries + mine)[:, None]
    table = block_tables + sequence * table_stride
    end = tl.minimum(earliest + QUERIES, context)
    whole = (earliest + 1) // TILE * TILE  # up to here every query of the tile sees every position
    if WINDOW > 0:
        whole = tl.maximum(earliest - WINDOW + 1, 0) // TILE * TILE
    else:
        for tile in range(0, whole, TILE):
            position = tile + tl.arange(0, TILE)
            top, total, acc = fold(
                q,
                key_cache,
                value_cache,
                table,
                position,
                end - 1,
                kv_head,
                True,
                scale,
                top,
                total,
                acc,
                KV_HEADS,
                BLOCK_TOKENS,
                SIZE,
                BLOCK_SIZE,
                False,
            )
    for tile in range(whole, end, TILE):
        position = tile + tl.arange(0, TILE)
        seen = position[None, :] <= standing
        if WINDOW > 0:
            seen = seen & (position[None, :] > standing - WINDOW)
        top, total, acc = fold(
            q,
            key_cache,
            value_cache,
            table,
            position,
            end - 1,
            kv_head,
            seen,
            scale,
            top,
            total,
            acc,
            KV_HEADS,
            BLOCK_TOKENS,
            SIZE,
            BLOCK_SIZE,
            True,
        )
    to = out + token[:, None] * out_stride + head[:, None] * out_head_stride + column[None, :]
    value = acc / tl.where(total > 0, total, 1.0)[:, None]
    tl.store(to, value.to(out.dtype.element_ty), mask=real)


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
