"""Change logits before a token is drawn: biases, penalties for what was said already, and bans.

    bias         logit += b
    repetition   a token of the prompt or the output: logit / r if positive, logit * r if not
    frequency    logit -= f * (times it was put out)
    presence     logit -= p   (if it was put out at all)

Shapes: R rows of V logits; B biased and P penalised pairs (row, token), each at most once; Q banned pairs.
Bytes: 8 * B and 8 * P, wherever they lie: the cost follows what was said, not the vocabulary.
Source: repetition from CTRL (Keskar et al., 2019); bias, presence and frequency as OpenAI documents them.
"""

import torch

from aruntime_kernels import _check, cpu
from aruntime_kernels._triton import OPTIONS, jit, tl, triton

_BLOCK = 128


def bias(logits: torch.Tensor, row: torch.Tensor, token: torch.Tensor, bias: torch.Tensor) -> None:
    """Add `bias` ([B] float32) to `logits` ([R, V] float32, in place) at the pairs `row`, `token` ([B] int32)."""
    operation = bias_triton if logits.is_cuda else cpu.bias
    operation(logits, row, token, bias)


def penalize(
    logits: torch.Tensor,
    row: torch.Tensor,
    token: torch.Tensor,
    output_count: torch.Tensor,
    in_prompt: torch.Tensor,
    presence: torch.Tensor,
    frequency: torch.Tensor,
    repetition: torch.Tensor,
) -> None:
    """Penalise `logits` ([R, V] float32, in place) at the pairs `row`, `token` ([P] int32).

    `output_count` says how often the token was put out, `in_prompt` is 1 when the prompt has it ([P] int32);
    `presence`, `frequency` and `repetition` are a row's penalties ([R] float32).
    """
    if logits.is_cuda:
        penalize_triton(logits, row, token, output_count, in_prompt, presence, frequency, repetition)
    else:
        cpu.penalize(logits, row, token, output_count, in_prompt, presence, frequency, repetition)


def ban(logits: torch.Tensor, row: torch.Tensor, token: torch.Tensor) -> None:
    """Set `logits` ([R, V] float32, in place) to minus infinity at the pairs `row`, `token` ([Q] int32)."""
    if logits.is_cuda:
        ban_triton(logits, row, token)
    else:
        cpu.ban(logits, row, token)


def bias_triton(logits: torch.Tensor, row: torch.Tensor, token: torch.Tensor, bias: torch.Tensor) -> None:
    """As `bias`, by the Triton kernel."""
    pairs = row.shape[0]
    _check.shape("logits", logits, tuple(logits.shape), torch.float32)
    _check.ints("row", row, pairs)
    _check.ints("token", token, pairs)
    _check.shape("bias", bias, (pairs,), torch.float32)
    _bias_kernel[(triton.cdiv(pairs, _BLOCK),)](
        logits, row, token, bias, logits.stride(0), *logits.shape, pairs, BLOCK=_BLOCK, num_warps=4, **OPTIONS
    )


def penalize_triton(
    logits: torch.Tensor,
    row: torch.Tensor,
    token: torch.Tensor,
    output_count: torch.Tensor,
    in_prompt: torch.Tensor,
    presence: torch.Tensor,
    frequency: torch.Tensor,
    repetition: torch.Tensor,
) -> None:
    """As `penalize`, by the Triton kernel: one program a block of pairs."""
    pairs = row.shape[0]
    _check.shape("logits", logits, tuple(logits.shape), torch.float32)
    for name, tensor in (("row", row), ("token", token), ("output_count", output_count), ("in_prompt", in_prompt)):
        _check.ints(name, tensor, pairs)
    for name, tensor in (("presence", presence), ("frequency", frequency), ("repetition", repetition)):
        _check.shape(name, tensor, (logits.shape[0],), torch.float32)
    _penalize_kernel[(triton.cdiv(pairs, _BLOCK),)](
        logits,
        row,
        token,
        output_count,
        in_prompt,
        presence,
        frequency,
        repetition,
        logits.stride(0),
        *logits.shape,
        pairs,
        BLOCK=_BLOCK,
        num_warps=4,
        **OPTIONS,
    )


def ban_triton(logits: torch.Tensor, row: torch.Tensor, token: torch.Tensor) -> None:
    """As `ban`, by the Triton kernel."""
    pairs = row.shape[0]
    _check.shape("logits", logits, tuple(logits.shape), torch.float32)
    _check.ints("row", row, pairs)
    _check.ints("token", token, pairs)
    _ban_kernel[(triton.cdiv(pairs, _BLOCK),)](
        logits, row, token, logits.stride(0), *logits.shape, pairs, BLOCK=_BLOCK, num_warps=4, **OPTIONS
    )


@jit
def _place(row, token, stride, rows, vocab, pair, pairs):
    """The row of each pair, where its logit lies, and whether it is one: what names no logit is not touched."""
    at = tl.load(row + pair, mask=pair < pairs, other=-1)
    column = tl.load(token + pair, mask=pair < pairs, other=-1)
    inside = (at >= 0) & (at < rows) & (column >= 0) & (column < vocab)
    at = tl.where(inside, at, 0)
    return at, at.to(tl.int64) * stride + column, inside


@jit
def _bias_kernel(logits, row, token, bias, stride, rows, vocab, pairs, BLOCK: tl.constexpr):
    pair = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    _, place, inside = _place(row, token, stride, rows, vocab, pair, pairs)
    value = tl.load(logits + place, mask=inside, other=0.0) + tl.load(bias + pair, mask=inside, other=0.0)
    tl.store(logits + place, value, mask=inside)


@jit
def _penalize_kernel(
    logits,
    row,
    token,
    output_count,
    in_prompt,
    presence,
    frequency,
    repetition,
    stride,
    rows,
    vocab,
    pairs,
    BLOCK: tl.constexpr,
):
    pair = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    at, place, inside = _place(row, token, stride, rows, vocab, pair, pairs)
    place = logits + place
    count = tl.load(output_count + pair, mask=inside, other=0)
    seen = (count > 0) | (tl.load(in_prompt + pair, mask=inside, other=0) != 0)
    value = tl.load(place, mask=inside, other=0.0)
    by = tl.load(repetition + at, mask=inside, other=1.0)
    value = tl.where(seen, tl.where(value > 0, value / by, value * by), value)
    value -= tl.load(frequency + at, mask=inside, other=0.0) * count.to(tl.float32)
    value -= tl.where(count > 0, tl.load(presence + at, mask=inside, other=0.0), 0.0)
    tl.store(place, value, mask=inside)


@jit
def _ban_kernel(logits, row, token, stride, rows, vocab, pairs, BLOCK: tl.constexpr):
    pair = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    _, place, inside = _place(row, token, stride, rows, vocab, pair, pairs)
    tl.store(logits + place, float("-inf"), mask=inside)


def bias_reference(logits: torch.Tensor, row: torch.Tensor, token: torch.Tensor, bias: torch.Tensor) -> None:
    """What `bias` means, in the plainest torch."""
    logits[row.long(), token.long()] += bias


def penalize_reference(
    logits: torch.Tensor,
    row: torch.Tensor,
    token: torch.Tensor,
    output_count: torch.Tensor,
    in_prompt: torch.Tensor,
    presence: torch.Tensor,
    frequency: torch.Tensor,
    repetition: torch.Tensor,
) -> None:
    """What `penalize` means, in the plainest torch."""
    at, column = row.long(), token.long()
    value, by = logits[at, column], repetition[at]
    seen = (output_count > 0) | (in_prompt != 0)
    value = torch.where(seen, torch.where(value > 0, value / by, value * by), value)
    value = value - frequency[at] * output_count - presence[at] * (output_count > 0)
    logits[at, column] = value


def ban_reference(logits: torch.Tensor, row: torch.Tensor, token: torch.Tensor) -> None:
    """What `ban` means, in the plainest torch."""
    logits[row.long(), token.long()] = float("-inf")
