"""Forbid all tokens but those of a mask, in some rows of logits, before a token is drawn.

    token t of the row is allowed  <=>  bit t % 32 of word t / 32 is set;  else its logit becomes minus infinity

Shapes: R rows of V logits; G rows are masked, by ceil(V / 32) words each.
Bytes: G * V * (4 + 1/8) at most: a mask is read, a logit that is not allowed is written.
Source: the layout that llguidance and xgrammar share.
"""

import torch

from aruntime_kernels import _check, cpu
from aruntime_kernels._triton import OPTIONS, jit, tl, triton

_BLOCK = 1024


def mask(logits: torch.Tensor, row: torch.Tensor, words: torch.Tensor) -> None:
    """Mask `logits` ([R, V] float32, in place) at the rows `row` ([G] int32) by `words` ([G, ceil(V / 32)] int32)."""
    if logits.is_cuda:
        mask_triton(logits, row, words)
    else:
        cpu.mask(logits, row, words)


def mask_triton(logits: torch.Tensor, row: torch.Tensor, words: torch.Tensor) -> None:
    """As `mask`, by the Triton kernel: one program a row and block of tokens. What names no row is not followed."""
    rows, vocab = logits.shape
    masked = row.shape[0]
    _check.shape("logits", logits, (rows, vocab), torch.float32)
    _check.ints("row", row, masked)
    _check.ints("words", words, masked, triton.cdiv(vocab, 32))
    _mask_kernel[(masked, triton.cdiv(vocab, _BLOCK))](
        logits, row, words, logits.stride(0), words.stride(0), rows, vocab, BLOCK=_BLOCK, num_warps=4, **OPTIONS
    )


@jit
def _mask_kernel(logits, row, words, stride, words_stride, rows, vocab, BLOCK: tl.constexpr):
    index = tl.program_id(0).to(tl.int64)
    token = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at = tl.load(row + index)
    inside = (token < vocab) & (at >= 0) & (at < rows)
    word = tl.load(words + index * words_stride + token // 32, mask=inside, other=-1)
    forbidden = ((word >> (token % 32)) & 1) == 0
    tl.store(logits + at.to(tl.int64) * stride + token, float("-inf"), mask=inside & forbidden)


def mask_reference(logits: torch.Tensor, row: torch.Tensor, words: torch.Tensor) -> None:
    """What `mask` means, in the plainest torch."""
    token = torch.arange(logits.shape[1], device=logits.device)
    allowed = (words[:, token // 32] >> (token % 32).int()) & 1
    logits[row.long()] = torch.where(allowed == 1, logits[row.long()], float("-inf"))
