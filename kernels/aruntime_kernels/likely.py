"""The likeliest tokens of some rows of logits, and how likely they and a given token are.

    logprob(x) = x - max - log(sum(exp(x - max)))          natural logarithm, under the logits as they are

That is what `sample` calls the logprob of the token that it draws: one distribution for both. A NaN counts as minus
infinity. Of equal logits the lowest id comes first; a token at minus infinity is never among the likeliest.

Shapes: R rows of V logits; N of them are looked at, K likeliest tokens wanted of each.
Bytes: 4 * N * V for each look at a row: 3 on a CPU, 1 + K on a GPU, where each look finds the next one; K is at most
20, few ask, and a row that was just looked at lies in the cache.
"""

import torch

from aruntime_kernels import _check, cpu
from aruntime_kernels._row import load_logits, peak_of
from aruntime_kernels._triton import OPTIONS, jit, tl

_BLOCK = 4096


def likely(
    logits: torch.Tensor,
    row: torch.Tensor,
    token: torch.Tensor,
    logprob: torch.Tensor,
    top_token: torch.Tensor,
    top_logprob: torch.Tensor,
) -> None:
    """Look at the rows `row` ([N] int32) of `logits` ([R, V] float32).

    `logprob` ([N] float32) gets the logprob of each row's `token` ([N] int32); `top_token` ([N, K] int32) and
    `top_logprob` ([N, K] float32) the likeliest tokens, in order, -1 and minus infinity where there are no more. What a
    row of infinities or NaN gets is not finite. ValueError names the tensor whose shape or type is wrong.
    """
    operation = likely_triton if logits.is_cuda else cpu.likely
    operation(logits, row, token, logprob, top_token, top_logprob)


def likely_triton(
    logits: torch.Tensor,
    row: torch.Tensor,
    token: torch.Tensor,
    logprob: torch.Tensor,
    top_token: torch.Tensor,
    top_logprob: torch.Tensor,
) -> None:
    """As `likely`, by the Triton kernel: one program a row. What names no row or token is not followed."""
    count, top = top_token.shape
    _check.shape("logits", logits, tuple(logits.shape), torch.float32)
    _check.ints("row", row, count)
    _check.ints("token", token, count)
    _check.shape("logprob", logprob, (count,), torch.float32)
    _check.ints("top_token", top_token, count, top)
    _check.shape("top_logprob", top_logprob, (count, top), torch.float32)
    if not (top_token.is_contiguous() and top_logprob.is_contiguous()):
        raise ValueError("top_token, top_logprob: want no gaps")
    _likely_kernel[(count,)](
        logits,
        row,
        token,
        logprob,
        top_token,
        top_logprob,
        logits.stride(0),
        *logits.shape,
        top,
        BLOCK=_BLOCK,
        num_warps=16,
        **OPTIONS,
    )


@jit
def _next_likely(row, vocab, bound, last, BLOCK: tl.constexpr):
    """The largest logit behind `bound` of the token `last`, and its token: `vocab` or more when there is none."""
    best = tl.full([BLOCK], float("-inf"), tl.float32)
    chosen = tl.full([BLOCK], 2147483647, tl.int32)
    for start in range(0, vocab, BLOCK):
        token = start + tl.arange(0, BLOCK)
        value = load_logits(row, token, vocab)
        ahead = ((value < bound) | ((value == bound) & (token > last))) & (value > best)
        best = tl.where(ahead, value, best)
        chosen = tl.where(ahead, token, chosen)
    highest = tl.max(best, 0)
    return highest, tl.min(tl.where(best == highest, chosen, 2147483647), 0)


@jit
def _likely_kernel(logits, row, token, logprob, top_token, top_logprob, stride, rows, vocab, top, BLOCK: tl.constexpr):
    index = tl.program_id(0).to(tl.int64)
    at = tl.load(row + index)
    named = tl.load(token + index)
    inside = (at >= 0) & (at < rows) & (named >= 0) & (named < vocab)
    place = logits + tl.where(inside, at, 0).to(tl.int64) * stride
    peak, total = peak_of(place, vocab, BLOCK)
    # The sum holds exp(0) of the largest; only a row of nothing has less.
    below = tl.log(tl.maximum(total, 1.0))
    value = load_logits(place, tl.where(inside, named, 0), vocab)
    tl.store(logprob + index, value - peak - below, mask=inside)
    bound = tl.full([], float("inf"), tl.float32)
    last = tl.full([], -1, tl.int32)
    for found in range(top):
        bound, last = _next_likely(place, vocab, bound, last, BLOCK)
        tl.store(top_token + index * top + found, tl.where(last < vocab, last, -1), mask=inside)
        tl.store(top_logprob + index * top + found, bound - peak - below, mask=inside)


def likely_reference(
    logits: torch.Tensor,
    row: torch.Tensor,
    token: torch.Tensor,
    logprob: torch.Tensor,
    top_token: torch.Tensor,
    top_logprob: torch.Tensor,
) -> None:
    """What `likely` means, in the plainest torch."""
    chosen = logits[row.long()]
    scores = torch.log_softmax(torch.where(chosen.isnan(), float("-inf"), chosen), -1)
    logprob.copy_(scores.gather(-1, token.long()[:, None])[:, 0])
    ordered = scores.sort(dim=-1, descending=True, stable=True)
    top = min(top_token.shape[1], scores.shape[1])
    top_token.fill_(-1)
    top_logprob.fill_(float("-inf"))
    top_token[:, :top] = torch.where(ordered.values[:, :top].isfinite(), ordered.indices[:, :top].int(), -1)
    top_logprob[:, :top] = ordered.values[:, :top]
