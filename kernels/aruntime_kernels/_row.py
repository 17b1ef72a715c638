"""Looks at one row of logits, block by block: its largest, a mass, the k-th largest. A NaN counts as minus infinity.

No sort: the k-th largest comes from a radix search of 4 digits over the order of float32.
"""

from aruntime_kernels._triton import jit, tl


@jit
def load_logits(row, token, vocab):
    """The logits of `token`, minus infinity for a NaN and past the end."""
    value = tl.load(row + token, mask=token < vocab, other=float("-inf"))
    return tl.where(value == value, value, float("-inf"))


@jit
def peak_of(row, vocab, BLOCK: tl.constexpr):
    """The largest logit, and the sum of exp(x - largest), in one look."""
    peaks = tl.full([BLOCK], -3.4e38, tl.float32)  # finite: nothing subtracts one infinity from another
    totals = tl.zeros([BLOCK], tl.float32)
    for start in range(0, vocab, BLOCK):
        value = load_logits(row, start + tl.arange(0, BLOCK), vocab)
        higher = tl.maximum(peaks, value)
        totals = totals * tl.exp(peaks - higher) + tl.exp(value - higher)
        peaks = higher
    peak = tl.max(peaks, 0)
    return peak, tl.sum(totals * tl.exp(peaks - peak), 0)


@jit
def mass_of(row, vocab, least, above, peak, temperature, BLOCK: tl.constexpr):
    """The mass of the logits that are at least `least` and more than `above`."""
    total = tl.zeros([BLOCK], tl.float32)
    for start in range(0, vocab, BLOCK):
        value = load_logits(row, start + tl.arange(0, BLOCK), vocab)
        total += tl.where((value >= least) & (value > above), tl.exp((value - peak) / temperature), 0.0)
    return tl.sum(total, 0)


@jit
def _digit(row, vocab, k, found, SHIFT: tl.constexpr, BLOCK: tl.constexpr):
    """The bits from SHIFT to SHIFT + 7 of the k-th largest order among those whose higher bits are `found`'s."""
    counts = tl.zeros([256], tl.int32)
    for start in range(0, vocab, BLOCK):
        token = start + tl.arange(0, BLOCK)
        bits = load_logits(row, token, vocab).to(tl.uint32, bitcast=True)
        order = bits ^ tl.where(bits >= 0x80000000, 0xFFFFFFFF, 0x80000000)  # unsigned order = order of floats
        inside = (token < vocab) & ((order & ((0xFFFFFF00 << SHIFT) & 0xFFFFFFFF)) == found)
        counts += tl.histogram(((order >> SHIFT) & 0xFF).to(tl.int32), 256, mask=inside)
    more = tl.sum(counts, 0) - tl.cumsum(counts, 0)  # how many have a larger digit
    digits = tl.arange(0, 256)
    digit = tl.min(tl.where(more < k, digits, 255), 0)
    return found | (digit.to(tl.uint32) << SHIFT), k - tl.sum(tl.where(digits == digit, more, 0), 0)


@jit
def kth_largest(row, vocab, k, BLOCK: tl.constexpr):
    """The k-th largest logit, found by its bits, eight at a time from the top."""
    found = tl.zeros([], tl.uint32)
    found, k = _digit(row, vocab, k, found, 24, BLOCK)
    found, k = _digit(row, vocab, k, found, 16, BLOCK)
    found, k = _digit(row, vocab, k, found, 8, BLOCK)
    found, k = _digit(row, vocab, k, found, 0, BLOCK)
    bits = found ^ tl.where(found >= 0x80000000, 0x80000000, 0xFFFFFFFF)
    return bits.to(tl.float32, bitcast=True)
