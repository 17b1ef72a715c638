"""Draw the next token of each row: temperature, top-k, top-p, min-p, and a draw that belongs to the request.

    s = logits / temperature                          temperature 0: the largest logit, the lowest id of equals
    top_k   keep s >= the k-th largest s
    top_p   of those, keep s >= the largest bound above which lies at least top_p of their mass
    min_p   of those, keep exp(s - max s) >= min_p
    token = argmax over the kept of s + g             the lowest id of equals (the Gumbel-max trick)

The draw: Philox4x32-10 (Salmon et al., 2011), key = the seed's low and high 32 bits, counter = (id // 4, 0, position, 0);
word id % 4 of the result, w, gives u = ((w >> 8) + 0.5) * 2**-24 and g = -log(-log(u)), all in float32. So a request's
tokens depend on its seed and on the token's place in its output, never on its row or on who shares the step, and are the
same on a CPU and a GPU but for the last bit of a logarithm.

Shapes: R rows of V logits. Bytes: 4 * R * V, read once for a greedy row; a filter reads the row again, from cache.
The bounds of top-k and top-p are found by bisection over the order of float32, 32 looks at a row each, without a sort.
"""

import torch

from aruntime_kernels import _check, cpu
from aruntime_kernels._triton import OPTIONS, jit, tl, triton

_BLOCK = 4096


def sample(
    logits: torch.Tensor,
    out: torch.Tensor,
    *,
    temperature: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
    seed: torch.Tensor,
    position: torch.Tensor,
    logprob: torch.Tensor | None = None,
) -> None:
    """Write a token of each row of `logits` ([R, V] float32) to `out` ([R] int32).

    [R] each: `temperature`, `top_p`, `min_p` float32; `top_k` int32, 0 for all; `seed` int64, the bits of an unsigned
    one; `position` int32, the token's place in the request's output. `logprob` ([R] float32) gets the logarithm of the
    token's probability under the logits as they are.
    """
    operation = sample_triton if logits.is_cuda else cpu.sample
    operation(
        logits,
        out,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        seed=seed,
        position=position,
        logprob=logprob,
    )


def sample_triton(
    logits: torch.Tensor,
    out: torch.Tensor,
    *,
    temperature: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
    seed: torch.Tensor,
    position: torch.Tensor,
    logprob: torch.Tensor | None = None,
) -> None:
    """As `sample`, by the Triton kernel: one program a row."""
    rows, vocab = logits.shape
    _check.shape("logits", logits, (rows, vocab))
    for name, tensor in (("out", out), ("top_k", top_k), ("position", position)):
        _check.ints(name, tensor, rows)
    for name, tensor in (("temperature", temperature), ("top_p", top_p), ("min_p", min_p), ("seed", seed)):
        _check.shape(name, tensor, (rows,))
    _sample_kernel[(rows,)](
        logits,
        out,
        temperature,
        top_k,
        top_p,
        min_p,
        seed,
        position,
        out if logprob is None else logprob,
        logits.stride(0),
        vocab,
        LOGPROB=logprob is not None,
        BLOCK=min(_BLOCK, triton.next_power_of_2(vocab)),
        num_warps=8,
        **OPTIONS,
    )


@jit
def _ordered(value):
    """The float32 as an int32 of the same order."""
    bits = value.to(tl.int32, bitcast=True)
    return tl.where(bits >= 0, bits, bits ^ 0x7FFFFFFF)


@jit
def _mass_above(row, vocab, heat, top, bound, floor, BLOCK: tl.constexpr, COUNT: tl.constexpr):
    """How many tokens, or what mass exp(s - top), have an order of s of at least `bound` and of at least `floor`."""
    sums = tl.zeros([BLOCK], tl.float32)
    for start in range(0, vocab, BLOCK):
        token = start + tl.arange(0, BLOCK)
        scaled = tl.load(row + token, mask=token < vocab, other=float("-inf")) / heat
        key = _ordered(scaled)
        kept = (token < vocab) & (key >= bound) & (key >= floor)
        if COUNT:
            sums += kept.to(tl.float32)
        else:
            sums += tl.where(kept, tl.exp(scaled - top), 0.0)
    return tl.sum(sums, 0)


@jit
def _bound(row, vocab, heat, top, want, floor, BLOCK: tl.constexpr, COUNT: tl.constexpr):
    """The largest order above which, itself included, at least `want` tokens or mass lie."""
    low = tl.full([], -2147483648, tl.int64)
    high = tl.full([], 2147483647, tl.int64)
    for _ in range(32):
        middle = (low + high + 1) >> 1
        enough = _mass_above(row, vocab, heat, top, middle.to(tl.int32), floor, BLOCK, COUNT) >= want
        low = tl.where(enough, middle, low)
        high = tl.where(enough, high, middle - 1)
    return low.to(tl.int32)


@jit
def _gumbel(group, seed, position, BLOCK: tl.constexpr):
    """The noise of the tokens 4 * group to 4 * group + 3, in the order of their ids."""
    zero = group * 0
    a, b, c, d = tl.philox(seed, group, zero, zero + position, zero)
    word = tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), [BLOCK])
    uniform = ((word >> 8).to(tl.float32) + 0.5) * 5.9604644775390625e-08
    return -tl.log(-tl.log(uniform))


@jit
def _sample_kernel(
    logits,
    out,
    temperature,
    top_k,
    top_p,
    min_p,
    seed,
    position,
    logprob,
    stride,
    vocab,
    LOGPROB: tl.constexpr,
    BLOCK: tl.constexpr,
):
    index = tl.program_id(0).to(tl.int64)
    row = logits + index * stride
    warmth = tl.load(temperature + index)
    best = tl.full([], float("-inf"), tl.float32)
    chosen = tl.zeros([], tl.int32)
    for start in range(0, vocab, BLOCK):
        token = start + tl.arange(0, BLOCK)
        value = tl.load(row + token, mask=token < vocab, other=float("-inf"))
        here = tl.max(value, 0)
        if here > best:
            best = here
            chosen = tl.min(tl.where((value == here) & (token < vocab), token, 2147483647), 0)
    if warmth > 0:
        top = best / warmth
        floor = tl.full([], -2147483648, tl.int32)
        k = tl.load(top_k + index)
        if (k > 0) & (k < vocab):
            floor = _bound(row, vocab, warmth, top, k.to(tl.float32), floor, BLOCK, True)
        p = tl.load(top_p + index)
        if p < 1.0:
            mass = _mass_above(row, vocab, warmth, top, floor, floor, BLOCK, False)
            floor = _bound(row, vocab, warmth, top, p * mass, floor, BLOCK, False)
        least = tl.load(min_p + index)
        key = tl.load(seed + index)
        place = tl.load(position + index)
        highest = tl.full([], float("-inf"), tl.float32)
        for start in range(0, vocab, BLOCK):
            token = start + tl.arange(0, BLOCK)
            scaled = tl.load(row + token, mask=token < vocab, other=float("-inf")) / warmth
            kept = (token < vocab) & (_ordered(scaled) >= floor) & (tl.exp(scaled - top) >= least)
            noise = _gumbel(start // 4 + tl.arange(0, BLOCK // 4), key, place, BLOCK)
            value = tl.where(kept, scaled + noise, float("-inf"))
            here = tl.max(value, 0)
            if here > highest:
                highest = here
                chosen = tl.min(tl.where(kept & (value == here), token, 2147483647), 0)
    tl.store(out + index, chosen)
    if LOGPROB:
        total = tl.zeros([BLOCK], tl.float32)
        for start in range(0, vocab, BLOCK):
            token = start + tl.arange(0, BLOCK)
            total += tl.exp(tl.load(row + token, mask=token < vocab, other=float("-inf")) - best)
        tl.store(logprob + index, tl.load(row + chosen) - best - tl.log(tl.sum(total, 0)))


def philox_reference(key: int, counter: torch.Tensor) -> torch.Tensor:
    """Philox4x32-10 of each row of `counter` ([..., 4] int64 holding 32-bit words) under the 64-bit `key`."""
    words = list(counter.unbind(-1))
    keys = [key & 0xFFFFFFFF, (key >> 32) & 0xFFFFFFFF]
    for _ in range(10):
        left, right = _wide_multiply(0xD2511F53, words[0]), _wide_multiply(0xCD9E8D57, words[2])
        words = [right[0] ^ words[1] ^ keys[0], right[1], left[0] ^ words[3] ^ keys[1], left[1]]
        keys = [(keys[0] + 0x9E3779B9) & 0xFFFFFFFF, (keys[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return torch.stack(words, -1)


def _wide_multiply(a: int, b: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """High and low 32 bits of a 32 by 32 bit product, in int64 without overflow."""
    low = a * (b & 0xFFFF)
    high = a * (b >> 16) + (low >> 16)
    return high >> 16, ((high & 0xFFFF) << 16) | (low & 0xFFFF)


def sample_reference(
    logits: torch.Tensor,
    out: torch.Tensor,
    *,
    temperature: torch.Tensor,
    top_k: torch.Tensor,
    top_p: torch.Tensor,
    min_p: torch.Tensor,
    seed: torch.Tensor,
    position: torch.Tensor,
    logprob: torch.Tensor | None = None,
) -> None:
    """What `sample` means, in the plainest torch."""
    for i, row in enumerate(logits):
        token = int(row.argmax()) if temperature[i] == 0 else _draw_reference(
            row / temperature[i], int(top_k[i]), float(top_p[i]), float(min_p[i]), int(seed[i]), int(position[i])
        )
        out[i] = token
        if logprob is not None:
            logprob[i] = torch.log_softmax(row, -1)[token]


def _draw_reference(scaled: torch.Tensor, top_k: int, top_p: float, min_p: float, seed: int, position: int) -> int:
    kept = torch.ones_like(scaled, dtype=torch.bool)
    if 0 < top_k < len(scaled):
        kept &= scaled >= scaled.topk(top_k).values[-1]
    mass = torch.where(kept, torch.exp(scaled - scaled.max()), 0.0)
    if top_p < 1:
        ordered, order = mass.sort(descending=True)
        enough = ordered.double().cumsum(0) >= top_p * mass.double().sum()
        kept &= scaled >= scaled[order[int(enough.int().argmax())]]
    kept &= torch.exp(scaled - scaled.max()) >= min_p
    ids = torch.arange(len(scaled), device=scaled.device)
    counter = torch.stack((ids // 4, ids * 0, ids * 0 + position, ids * 0), -1)
    word = philox_reference(seed, counter).gather(-1, (ids % 4)[:, None])[:, 0]
    uniform = ((word >> 8).float() + 0.5) * 2.0**-24
    return int(torch.where(kept, scaled - torch.log(-torch.log(uniform)), float("-inf")).argmax())
