"""Draw the next token of each row: temperature, top-k, top-p, min-p, and a draw that belongs to the request.

    top_k   keep x >= the k-th largest logit                        (equals of the k-th stay; 0, or V and more: all)
    top_p   of those, keep x when the mass of the logits above x is less than top_p of their whole mass
    min_p   of those, keep x >= max + temperature * log(min_p)
    token = argmax over the kept of  x - temperature * log(e)       (the lowest id of equals; the Gumbel-max trick)

Mass is exp((x - max) / temperature). Temperature 0 is greedy and takes no filter. A NaN counts as minus infinity.

The draw, all in float32 but for the integers: token `id` has the word w = Philox4x32-10(key, counter)[id % 4], with
key = (seed's low, high 32 bits) and counter = (id // 4, 0, position, 0) (Salmon et al., 2011). Then

    v = min(max(float(w >> 1), 0.5) * 2**-31, 1 - 2**-24)           uniform in (0, 1); 31 bits convert as a signed int
    e = v * (1 + v * (1/2 + v * 1/3)) if v < 2**-6 else -log(1 - v) an exponential variable, -log(1 - v)

The winner has the smallest e / mass, and over a large vocabulary that e is tiny: so it keeps all 31 bits near 0, where
-log(u) with u near 1 has 2**-24 for its step, which shows in the odds of rare tokens. e is never 0 and never infinite.
So a request's tokens depend on its seed and on the token's place in its output, never on its row or on who shares the
step, and are the same on a CPU and a GPU but for the last bit of a logarithm.

Shapes: R rows of V logits. Bytes: 4 * R * V for each look at a row: 1 greedy or unfiltered, 1 more for a
log-probability or any filter, 4 for top-k, 2 for top-p. No sort: the k-th largest comes from a radix search of 4 digits
over the order of float32. Top-p searches for nothing: the winner over more than is kept, if it is kept itself, is the
winner over the kept; if not, neither is anything at or below it, and the race is run again above it. Each time removes
a uniform share of the mass, so 1 + log(1 / top_p) times are expected (dual-pivot rejection in FlashInfer is a cousin).
"""

import math

import torch

from aruntime_kernels import _check, cpu
from aruntime_kernels._triton import OPTIONS, jit, tl

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
    token's probability under the logits as they are. ValueError names the tensor whose shape or type is wrong.
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
    _check.shape("logits", logits, (rows, vocab), torch.float32)
    for name, tensor in (("out", out), ("top_k", top_k), ("position", position)):
        _check.ints(name, tensor, rows)
    for name, tensor in (("temperature", temperature), ("top_p", top_p), ("min_p", min_p)):
        _check.shape(name, tensor, (rows,), torch.float32)
    _check.shape("seed", seed, (rows,), torch.int64)
    if logprob is not None:
        _check.shape("logprob", logprob, (rows,), torch.float32)
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
        BLOCK=_BLOCK,
        num_warps=16,
        **OPTIONS,
    )


@jit
def _logits(row, token, vocab):
    """The logits of `token`, minus infinity for a NaN and past the end."""
    value = tl.load(row + token, mask=token < vocab, other=float("-inf"))
    return tl.where(value == value, value, float("-inf"))


@jit
def _peak(row, vocab, BLOCK: tl.constexpr):
    """The largest logit, and the sum of exp(x - largest), in one look."""
    peaks = tl.full([BLOCK], -3.4e38, tl.float32)  # finite: nothing subtracts one infinity from another
    totals = tl.zeros([BLOCK], tl.float32)
    for start in range(0, vocab, BLOCK):
        value = _logits(row, start + tl.arange(0, BLOCK), vocab)
        higher = tl.maximum(peaks, value)
        totals = totals * tl.exp(peaks - higher) + tl.exp(value - higher)
        peaks = higher
    peak = tl.max(peaks, 0)
    return peak, tl.sum(totals * tl.exp(peaks - peak), 0)


@jit
def _mass(row, vocab, least, above, peak, temperature, BLOCK: tl.constexpr):
    """The mass of the logits that are at least `least` and more than `above`."""
    mass = tl.zeros([BLOCK], tl.float32)
    for start in range(0, vocab, BLOCK):
        value = _logits(row, start + tl.arange(0, BLOCK), vocab)
        mass += tl.where((value >= least) & (value > above), tl.exp((value - peak) / temperature), 0.0)
    return tl.sum(mass, 0)


@jit
def _digit(row, vocab, k, found, SHIFT: tl.constexpr, BLOCK: tl.constexpr):
    """The bits from SHIFT to SHIFT + 7 of the k-th largest order among those whose higher bits are `found`'s."""
    counts = tl.zeros([256], tl.int32)
    for start in range(0, vocab, BLOCK):
        token = start + tl.arange(0, BLOCK)
        bits = _logits(row, token, vocab).to(tl.uint32, bitcast=True)
        order = bits ^ tl.where(bits >= 0x80000000, 0xFFFFFFFF, 0x80000000)  # unsigned order = order of floats
        inside = (token < vocab) & ((order & ((0xFFFFFF00 << SHIFT) & 0xFFFFFFFF)) == found)
        counts += tl.histogram(((order >> SHIFT) & 0xFF).to(tl.int32), 256, mask=inside)
    more = tl.sum(counts, 0) - tl.cumsum(counts, 0)  # how many have a larger digit
    digits = tl.arange(0, 256)
    digit = tl.min(tl.where(more < k, digits, 255), 0)
    return found | (digit.to(tl.uint32) << SHIFT), k - tl.sum(tl.where(digits == digit, more, 0), 0)


@jit
def _kth_largest(row, vocab, k, BLOCK: tl.constexpr):
    """The k-th largest logit, found by its bits, eight at a time from the top."""
    found = tl.zeros([], tl.uint32)
    found, k = _digit(row, vocab, k, found, 24, BLOCK)
    found, k = _digit(row, vocab, k, found, 16, BLOCK)
    found, k = _digit(row, vocab, k, found, 8, BLOCK)
    found, k = _digit(row, vocab, k, found, 0, BLOCK)
    bits = found ^ tl.where(found >= 0x80000000, 0x80000000, 0xFFFFFFFF)
    return bits.to(tl.float32, bitcast=True)


@jit
def _exponential(token, seed, position):
    """The variable e of each token; `token` is [groups, 4], aligned to 4."""
    group = tl.min(token, 1) // 4
    zero = group * 0
    a, b, c, d = tl.philox(seed, group, zero, zero + position, zero)
    word = tl.reshape(tl.join(tl.join(a, c), tl.join(b, d)), token.shape)
    uniform = (word >> 1).to(tl.int32).to(tl.float32)
    uniform = tl.minimum(tl.maximum(uniform, 0.5) * 4.656612873077393e-10, 0.9999999403953552)
    near_zero = uniform * (1.0 + uniform * (0.5 + uniform * 0.3333333432674408))
    return tl.where(uniform < 0.015625, near_zero, -tl.log(1.0 - uniform))


@jit
def _race(row, vocab, least, above, temperature, seed, position, BLOCK: tl.constexpr, NOISE: tl.constexpr):
    """The winner among the logits that are at least `least` and more than `above`; token 0 if there is none."""
    best = tl.full([BLOCK // 4, 4], float("-inf"), tl.float32)
    chosen = tl.zeros([BLOCK // 4, 4], tl.int32)
    lane = tl.arange(0, BLOCK // 4)[:, None] * 4 + tl.arange(0, 4)[None, :]
    for start in range(0, vocab, BLOCK):
        token = start + lane
        value = _logits(row, token, vocab)
        kept = (value >= least) & (value > above)
        if NOISE:
            value -= temperature * tl.log(_exponential(token, seed, position))
        ahead = kept & (value > best)
        best = tl.where(ahead, value, best)
        chosen = tl.where(ahead, token, chosen)
    highest = tl.max(best)
    winner = tl.min(tl.where((best == highest) & (best > float("-inf")), chosen, 2147483647))
    return tl.where(winner < vocab, winner, 0)


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
    heat = tl.load(temperature + index)
    nothing = tl.full([], float("-inf"), tl.float32)
    peak, total = nothing, nothing
    k = tl.load(top_k + index)
    p = tl.load(top_p + index)
    part = tl.load(min_p + index)
    filtered = (heat > 0) & (((k > 0) & (k < vocab)) | (p < 1) | (part > 0))
    if LOGPROB or filtered:
        peak, total = _peak(row, vocab, BLOCK)
    chosen = tl.zeros([], tl.int32)
    if heat > 0:
        least, whole = nothing, nothing
        if (k > 0) & (k < vocab):
            least = _kth_largest(row, vocab, k, BLOCK)
        if p < 1:
            whole = _mass(row, vocab, least, nothing, peak, heat, BLOCK)
        if part > 0:
            least = tl.maximum(least, peak + heat * tl.log(tl.minimum(part, 1.0)))
        key = tl.load(seed + index)
        place = tl.load(position + index)
        above = nothing
        running = 1
        while running == 1:
            chosen = _race(row, vocab, least, above, heat, key, place, BLOCK, True)
            running = 0
            if p < 1:
                above = _logits(row, chosen, vocab)
                larger = _mass(row, vocab, least, above, peak, heat, BLOCK)
                # The largest logit has nothing above it and always stands, whatever top_p is.
                if (larger > 0) & (larger >= p * whole):
                    running = 1
    else:
        chosen = _race(row, vocab, nothing, nothing, heat, 0, 0, BLOCK, False)
    tl.store(out + index, chosen)
    if LOGPROB:
        # The sum holds exp(0) of the largest; only a row of nothing has less.
        tl.store(logprob + index, _logits(row, chosen, vocab) - peak - tl.log(tl.maximum(total, 1.0)))


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
    for i, row in enumerate(logits.nan_to_num(nan=float("-inf"), posinf=float("inf"), neginf=float("-inf"))):
        heat = float(temperature[i])
        chosen = int(row.argmax())
        if heat > 0:
            filters = (int(top_k[i]), float(top_p[i]), float(min_p[i]))
            chosen = _draw_reference(row, heat, *filters, int(seed[i]), int(position[i]))
        out[i] = chosen
        if logprob is not None:
            logprob[i] = torch.log_softmax(row, -1)[chosen]


def _draw_reference(
    row: torch.Tensor, heat: float, top_k: int, top_p: float, min_p: float, seed: int, position: int
) -> int:
    kept = torch.ones_like(row, dtype=torch.bool)
    if 0 < top_k < len(row):
        kept &= row >= row.topk(top_k).values[-1]
    if top_p < 1:
        ordered = torch.where(kept, row, float("-inf")).sort(descending=True).values
        mass = torch.exp((ordered.double() - ordered[0]) / heat)
        enough = mass.cumsum(0) >= top_p * mass.sum()
        kept &= row >= ordered[int(enough.int().argmax())]
    if min_p > 0:
        kept &= row >= row.max() + heat * math.log(min_p)
    race = row - heat * torch.log(exponential_reference(len(row), seed, position).to(row.device))
    return int(torch.where(kept, race, float("-inf")).argmax())


def exponential_reference(vocab: int, seed: int, position: int) -> torch.Tensor:
    """The variable e of each token of a vocabulary: [V] float32."""
    ids = torch.arange(vocab)
    counter = torch.stack((ids // 4, ids * 0, ids * 0 + position, ids * 0), -1)
    return exponential_of(philox_reference(seed, counter).gather(-1, (ids % 4)[:, None])[:, 0])


def exponential_of(word: torch.Tensor) -> torch.Tensor:
    """The variable e that a 32-bit word (in int64) stands for."""
    uniform = ((word >> 1).float().clamp(min=0.5) * 2.0**-31).clamp(max=1 - 2.0**-24)
    near_zero = uniform * (1 + uniform * (1 / 2 + uniform * (1 / 3)))
    return torch.where(uniform < 2.0**-6, near_zero, -torch.log(1 - uniform))
