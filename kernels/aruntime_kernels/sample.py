"""Draw the next token of each row: temperature, top-k, top-p, min-p, and a draw that belongs to the request.

    top_k   keep x >= the k-th largest logit                        (equals of the k-th stay; 0, or V and more: all)
    top_p   of those, keep x when the mass of the logits above x is less than top_p of their whole mass
    min_p   of those, keep x >= max + temperature * log(min_p)
    token = argmax over the kept of  x - temperature * log(e)       (the lowest id of equals; the Gumbel-max trick)

Mass is exp((x - max) / temperature). Temperature 0 is greedy and takes no filter. A NaN counts as minus infinity.

e is an exponential variable that belongs to the token, the seed and the place in the output (_draw.py). So what a
request draws depends neither on its row nor on who shares the step, and is the same on a CPU and a GPU but for the last
bit of a logarithm.

Shapes: R rows of V logits. Bytes: 4 * R * V for each look at a row: 1 greedy or unfiltered, 1 more for a
log-probability or any filter, 4 for top-k, 2 for top-p (_row.py). Top-p searches for nothing: the winner over more than
is kept, if it is kept itself, is the winner over the kept; if not, neither is anything at or below it, and the race is
run again above it. Each time removes a uniform share of the mass, so 1 + log(1 / top_p) times are expected (dual-pivot
rejection in FlashInfer is a cousin).
"""

import math

import torch

from aruntime_kernels import _check, cpu
from aruntime_kernels._draw import exponential, exponential_reference
from aruntime_kernels._row import kth_largest, load_logits, mass_of, peak_of
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
def _race(row, vocab, least, above, temperature, seed, position, BLOCK: tl.constexpr, NOISE: tl.constexpr):
    """The winner among the logits that are at least `least` and more than `above`; token 0 if there is none."""
    best = tl.full([BLOCK // 4, 4], float("-inf"), tl.float32)
    chosen = tl.zeros([BLOCK // 4, 4], tl.int32)
    lane = tl.arange(0, BLOCK // 4)[:, None] * 4 + tl.arange(0, 4)[None, :]
    for start in range(0, vocab, BLOCK):
        token = start + lane
        value = load_logits(row, token, vocab)
        kept = (value >= least) & (value > above)
        if NOISE:
            value -= temperature * tl.log(exponential(token, seed, position))
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
        peak, total = peak_of(row, vocab, BLOCK)
    chosen = tl.zeros([], tl.int32)
    if heat > 0:
        least, whole = nothing, nothing
        if (k > 0) & (k < vocab):
            least = kth_largest(row, vocab, k, BLOCK)
        if p < 1:
            whole = mass_of(row, vocab, least, nothing, peak, heat, BLOCK)
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
                above = load_logits(row, chosen, vocab)
                larger = mass_of(row, vocab, least, above, peak, heat, BLOCK)
                # The largest logit has nothing above it and always stands, whatever top_p is.
                if (larger > 0) & (larger >= p * whole):
                    running = 1
    else:
        chosen = _race(row, vocab, nothing, nothing, heat, 0, 0, BLOCK, False)
    tl.store(out + index, chosen)
    if LOGPROB:
        # The sum holds exp(0) of the largest; only a row of nothing has less.
        tl.store(logprob + index, load_logits(row, chosen, vocab) - peak - tl.log(tl.maximum(total, 1.0)))


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
