"""What both attention kernels do with one tile of positions: fetch its keys and values and fold them into a softmax.

The running softmax (Milakov and Gimelshein, 2018): `top` is the largest scaled score so far, in units of log2; `total`
is the sum of weights and `acc` the weighted sum of values, both relative to it.
"""

from aruntime_kernels._triton import jit, tl

LOG2E = 1.4426950408889634


@jit
def fold(
    q,
    key_cache,
    value_cache,
    table,
    position,
    last,
    kv_head,
    seen,
    scale,
    top,
    total,
    acc,
    KV_HEADS: tl.constexpr,
    BLOCK_TOKENS: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK_SIZE: tl.constexpr,
    MASKED: tl.constexpr,
):
    """Fold the keys and values at `position` in; when MASKED, only the (query, position) pairs `seen`."""
    if MASKED:
        # A row past the end would read a block never written; the last one's own row is there and is not counted.
        position = tl.minimum(position, last)
    block = tl.load(table + position // BLOCK_TOKENS)
    # int64 before the multiply: row * stride passes 2**31 in caches over 2 Gi elements.
    row = block.to(tl.int64) * BLOCK_TOKENS + position % BLOCK_TOKENS
    column = tl.arange(0, BLOCK_SIZE)
    place = (row * (KV_HEADS * SIZE) + kv_head * SIZE)[:, None] + column[None, :]
    if BLOCK_SIZE == SIZE:
        k = tl.load(key_cache + place)
        v = tl.load(value_cache + place)
    else:
        k = tl.load(key_cache + place, mask=(column < SIZE)[None, :], other=0.0)
        v = tl.load(value_cache + place, mask=(column < SIZE)[None, :], other=0.0)
    score = tl.dot(q, tl.trans(k).to(q.dtype), input_precision="ieee")
    if MASKED:
        score = tl.where(seen, score, float("-inf"))
    higher = tl.maximum(top, tl.max(score, 1) * scale)
    safe = tl.where(higher == float("-inf"), 0.0, higher)  # nothing seen yet
    weight = tl.exp2(score * scale - safe[:, None])
    shrink = tl.exp2(top - safe)
    total = total * shrink + tl.sum(weight, 1)
    acc = acc * shrink[:, None] + tl.dot(weight.to(v.dtype), v, input_precision="ieee")
    return higher, total, acc
