"""The states of a text become one vector: their mean, or the last of them. A text may come in several steps.

    chunk of e     (sums[place[e]] if carry[e] else 0) + x[start[e]] + ... + x[end[e] - 1]
      goes on      into sums[place[e]]          divisor[e] is 0
      ends         out[e] = that / divisor[e]   the tokens of the text; 1 for the last state alone, a chunk of one row

Shapes: T rows of H states, E chunks, N places of sums. Sums and vectors are float32, added row by row: the same bits
alone or among others. `out` is written where a text ends only.
Bytes: the rows of the chunks read once, 4 * H a chunk written.
"""

import torch

from aruntime_kernels import _check
from aruntime_kernels._triton import OPTIONS, jit, tl, triton

_BLOCK = 128


def pool(
    x: torch.Tensor,
    start: torch.Tensor,
    end: torch.Tensor,
    place: torch.Tensor,
    carry: torch.Tensor,
    divisor: torch.Tensor,
    sums: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """Pool chunks of rows of `x` ([T, H]) by way of `sums` ([N, H] float32) into `out` ([E, H] float32).

    `start`, `end`, `place`, `carry`, `divisor` are [E] int32. No two chunks share a place.
    """
    (pool_triton if x.is_cuda else pool_reference)(x, start, end, place, carry, divisor, sums, out)


def pool_triton(
    x: torch.Tensor,
    start: torch.Tensor,
    end: torch.Tensor,
    place: torch.Tensor,
    carry: torch.Tensor,
    divisor: torch.Tensor,
    sums: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """As `pool`, by the Triton kernel: one program a chunk and block of columns."""
    chunks, size = out.shape
    _check.shape("x", x, (x.shape[0], size))
    _check.shape("sums", sums, (sums.shape[0], size), torch.float32)
    _check.shape("out", out, (chunks, size), torch.float32)
    for name, column in (("start", start), ("end", end), ("place", place), ("carry", carry), ("divisor", divisor)):
        _check.ints(name, column, chunks)
    _pool_kernel[(chunks, triton.cdiv(size, _BLOCK))](
        x, start, end, place, carry, divisor, sums, out, x.stride(0), sums.stride(0), out.stride(0), size,
        BLOCK=_BLOCK, num_warps=4, **OPTIONS,
    )  # fmt: skip


@jit
def _pool_kernel(
    x, start, end, place, carry, divisor, sums, out, x_stride, sums_stride, out_stride, size, BLOCK: tl.constexpr
):
    chunk = tl.program_id(0).to(tl.int64)
    column = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    inside = column < size
    kept = sums + tl.load(place + chunk).to(tl.int64) * sums_stride + column
    total = tl.load(kept, mask=inside & (tl.load(carry + chunk) != 0), other=0.0)
    first = tl.load(start + chunk)
    row = x + first.to(tl.int64) * x_stride + column
    for _ in range(first, tl.load(end + chunk)):
        total += tl.load(row, mask=inside, other=0.0).to(tl.float32)
        row += x_stride
    by = tl.load(divisor + chunk)
    tl.store(kept, total, mask=inside & (by == 0))
    tl.store(out + chunk * out_stride + column, total / tl.maximum(by, 1).to(tl.float32), mask=inside & (by != 0))


def pool_reference(
    x: torch.Tensor,
    start: torch.Tensor,
    end: torch.Tensor,
    place: torch.Tensor,
    carry: torch.Tensor,
    divisor: torch.Tensor,
    sums: torch.Tensor,
    out: torch.Tensor,
) -> None:
    """What `pool` means, in the plainest torch."""
    columns = (column.tolist() for column in (start, end, place, carry, divisor))
    for chunk, (first, last, at, goes_on, by) in enumerate(zip(*columns, strict=True)):
        total = sums[at].clone() if goes_on else torch.zeros_like(out[chunk])
        for row in x[first:last]:  # in this order, wherever a text is cut
            total += row
        if by:
            out[chunk] = total / by
        else:
            sums[at] = total
