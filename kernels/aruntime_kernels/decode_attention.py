"""Attention of one query a sequence over its keys and values in the paged cache.

    position p of sequence b  -->  cache row block_tables[b, p // block_tokens] * block_tokens + p % block_tokens

Shapes: B sequences, Hq query heads, Hkv kv heads (Hq = G * Hkv), D head size, N cache rows, M blocks a table.
Bytes: 2 * Hkv * D * itemsize * sum(context_len): every key and value once, for all G queries that share it.

A sequence is split at every CHUNK positions, wherever it stands, and the parts are merged in their order: a row's bits
are the same alone and in any step (flash decoding, Dao et al. 2023, with a fixed split). The grid is as wide as the
machine and shares out the (chunk, kv head) pairs that `context_len`, in device memory, says there are: one captured
graph holds for every length. A sequence of one chunk is written at once, without a part.
"""

from functools import cache

import torch

from aruntime_kernels import _check, cpu
from aruntime_kernels._attention import LOG2E, fold
from aruntime_kernels._triton import OPTIONS, jit, tl, triton

CHUNK = 256  # positions a program reads; the split that every result depends on
SEQUENCES_MAX = 1024  # of one launch: every program keeps the running count of chunks of all of them
_PROGRAMS = 2  # for each processor of the device; all of them stay resident, as a share that waits would come last
_PARTS = 16  # merged together
_EXTRA = 4  # after the D values of a part: its top, its total, and two to keep rows a multiple of 16 bytes


def decode_workspace(sequences: int, heads: int, size: int, context_max: int, device: str) -> torch.Tensor:
    """Room for the parts of `sequences` rows up to `context_max` positions: [B, Hq, chunks, D + 4] float32."""
    return torch.empty(sequences, heads, triton.cdiv(context_max, CHUNK), size + _EXTRA, device=device)


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

    `key_cache`, `value_cache`: [N, Hkv, D]. `block_tables` [B, M] and `context_len` [B] are int32; row b sees positions
    0 to context_len[b] - 1, or the last `window` of them when that is not 0. On a GPU a row without any is 0 (it fills
    up a captured graph), and it needs `partial`, a `decode_workspace`. ValueError names the tensor that is wrong.
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
    """As `decode_attention`, by the Triton kernels: one over chunks, one to merge their parts."""
    _check.attention(query, key_cache, value_cache, out, scale=scale, block_tokens=block_tokens, window=window)
    rows, heads, size = query.shape
    kv_heads = key_cache.shape[1]
    chunks = triton.cdiv(block_tables.shape[1] * block_tokens, CHUNK)
    _check.ints("block_tables", block_tables, rows, block_tables.shape[1])
    _check.ints("context_len", context_len, rows)
    if rows > SEQUENCES_MAX:
        raise ValueError(f"query: want at most {SEQUENCES_MAX} sequences, got {rows}")
    if partial is None:
        raise ValueError("partial: want a workspace, got None")
    room = partial.shape
    if room[0] < rows or room[2] < chunks:
        raise ValueError(f"partial: want at least [{rows}, {heads}, {chunks}, {size + _EXTRA}], got {list(room)}")
    _check.shape("partial", partial, (room[0], heads, room[2], size + _EXTRA), torch.float32)
    common = {
        "SIZE": size,
        "BLOCK_SIZE": triton.next_power_of_2(size),
        "BLOCK_TOKENS": block_tokens,
        "CHUNK": CHUNK,
        "WINDOW": window,
        **OPTIONS,
    }
    _decode_kernel[(_PROGRAMS * _processors(query.device),)](
        query,
        key_cache,
        value_cache,
        block_tables,
        context_len,
        out,
        partial,
        scale * LOG2E,
        rows,
        block_tables.shape[1],
        room[2],
        query.stride(0),
        query.stride(1),
        out.stride(0),
        out.stride(1),
        block_tables.stride(0),
        KV_HEADS=kv_heads,
        GROUP=heads // kv_heads,
        BLOCK_GROUP=max(16, triton.next_power_of_2(heads // kv_heads)),
        SEQUENCES=SEQUENCES_MAX,
        TILE=_tile(size, key_cache.dtype),
        num_warps=4,
        num_stages=2,
        **common,
    )
    _merge_kernel[(rows, heads)](
        context_len,
        out,
        partial,
        block_tables.shape[1],
        room[2],
        out.stride(0),
        out.stride(1),
        HEADS=heads,
        PARTS=_PARTS,
        num_warps=4,
        **common,
    )


def _tile(size: int, dtype: torch.dtype) -> int:
    """Positions of a tile: 16 KiB of keys, so that two stages of keys and values fit twice into one processor."""
    row_bytes = int(triton.next_power_of_2(size)) * dtype.itemsize
    return max(16, min(64, 16384 // row_bytes))


@cache
def _processors(device: torch.device) -> int:
    """How many processors the device has; two in the interpreter, so that there, too, a program has several pieces."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 2


@jit
def _chunks(context, CHUNK: tl.constexpr, WINDOW: tl.constexpr):
    """The first chunk that a row of this context sees, and how many: one, empty, of an empty row."""
    first = tl.maximum(context - WINDOW, 0) // CHUNK if WINDOW > 0 else context * 0
    return first, tl.maximum((context + CHUNK - 1) // CHUNK - first, 1)


@jit(do_not_specialize=["rows", "width", "room"])  # a batch of one must run the code of any other
def _decode_kernel(
    query,
    key_cache,
    value_cache,
    block_tables,
    context_len,
    out,
    partial,
    scale,
    rows,
    width,
    room,
    query_stride,
    query_head_stride,
    out_stride,
    out_head_stride,
    table_stride,
    KV_HEADS: tl.constexpr,
    GROUP: tl.constexpr,
    BLOCK_GROUP: tl.constexpr,
    SEQUENCES: tl.constexpr,
    TILE: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    CHUNK: tl.constexpr,
    WINDOW: tl.constexpr,
):
    # A context longer than its table would read past the table's end.
    everyone = tl.arange(0, SEQUENCES)
    contexts = tl.minimum(tl.load(context_len + everyone, mask=everyone < rows, other=0), width * BLOCK_TOKENS)
    counts = tl.where(everyone < rows, _chunks(contexts, CHUNK, WINDOW)[1], 0)
    ends = tl.cumsum(counts, 0)
    member = tl.arange(0, BLOCK_GROUP)  # the queries that share this kv head: rows of one matrix product
    column = tl.arange(0, BLOCK_SIZE)
    real = (member < GROUP)[:, None] & (column < SIZE)[None, :]
    for item in range(tl.program_id(0), tl.sum(counts, 0) * KV_HEADS, tl.num_programs(0)):
        number = item // KV_HEADS
        kv_head = item % KV_HEADS + tl.zeros([], tl.int64)
        before = ends <= number
        row = tl.sum(before.to(tl.int32), 0).to(tl.int64)
        context = tl.minimum(tl.load(context_len + row), width * BLOCK_TOKENS)
        first, count = _chunks(context, CHUNK, WINDOW)
        chunk = first + number - tl.max(tl.where(before, ends, 0), 0)
        head = kv_head * GROUP + member
        from_query = query + row * query_stride + head[:, None] * query_head_stride + column[None, :]
        q = tl.load(from_query, mask=real, other=0.0)
        top = tl.full([BLOCK_GROUP], float("-inf"), tl.float32)
        total = tl.zeros([BLOCK_GROUP], tl.float32)
        acc = tl.zeros([BLOCK_GROUP, BLOCK_SIZE], tl.float32)
        start = chunk * CHUNK
        end = tl.minimum(start + CHUNK, context)
        if WINDOW > 0:
            start = tl.maximum(start, tl.maximum(context - WINDOW, 0) // TILE * TILE)
        for tile in range(start, end, TILE):
            position = tile + tl.arange(0, TILE)
            seen = position < end
            if WINDOW > 0:
                seen = seen & (position >= context - WINDOW)
            top, total, acc = fold(
                q,
                key_cache,
                value_cache,
                block_tables + row * table_stride,
                position,
                end - 1,
                kv_head,
                seen[None, :],
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
        if count == 1:
            to = out + row * out_stride + head[:, None] * out_head_stride + column[None, :]
            value = acc / tl.where(total > 0, total, 1.0)[:, None]
            tl.store(to, value.to(out.dtype.element_ty), mask=real)
        else:
            # Times a constant, so that the compiler knows the rows' alignment.
            part = partial + ((row * (KV_HEADS * GROUP) + head) * room + chunk) * (SIZE + 4)
            tl.store(part[:, None] + column[None, :], acc, mask=real)
            tl.store(part + SIZE, top, mask=member < GROUP)
            tl.store(part + SIZE + 1, total, mask=member < GROUP)


@jit(do_not_specialize=["width", "room"])
def _merge_kernel(
    context_len,
    out,
    partial,
    width,
    room,
    out_stride,
    out_head_stride,
    HEADS: tl.constexpr,
    PARTS: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    CHUNK: tl.constexpr,
    WINDOW: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1).to(tl.int64)
    context = tl.minimum(tl.load(context_len + row), width * BLOCK_TOKENS)
    first, count = _chunks(context, CHUNK, WINDOW)
    if count == 1:
        return
    column = tl.arange(0, BLOCK_SIZE)
    top = tl.full([], float("-inf"), tl.float32)
    total = tl.zeros([], tl.float32)
    acc = tl.zeros([BLOCK_SIZE], tl.float32)
    for chunk in range(first, first + count, PARTS):
        number = chunk + tl.arange(0, PARTS)
        there = number < first + count
        part = partial + ((row * HEADS + head) * room + number) * (SIZE + 4)
        tops = tl.load(part + SIZE, mask=there, other=float("-inf"))
        totals = tl.load(part + SIZE + 1, mask=there, other=0.0)
        inside = there[:, None] & (column < SIZE)[None, :]
        values = tl.load(part[:, None] + column[None, :], mask=inside, other=0.0)
        higher = tl.maximum(top, tl.max(tops, 0))
        shrink, grow = tl.exp2(top - higher), tl.exp2(tops - higher)
        total = total * shrink + tl.sum(totals * grow, 0)
        acc = acc * shrink + tl.sum(values * grow[:, None], 0)
        top = higher
    to = out + row * out_stride + head * out_head_stride + column
    tl.store(to, (acc / total).to(out.dtype.element_ty), mask=column < SIZE)


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
