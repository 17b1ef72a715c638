"""What the tests of the Triton kernels share: the device, tensors on it, a paged cache, a batch of draws.

The interpreter is wrong in silence on bfloat16 (its dot multiplies raw bits), so float32 and float16 are used there.
Outputs start as NaN, lengths lie off the powers of two, rows are strided as in the fused projection.
"""

import os
from collections.abc import Callable

import torch
from aruntime_kernels.decode_attention import CHUNK, decode_attention_triton, decode_workspace

DEVICE = "cpu" if os.environ.get("TRITON_INTERPRET") == "1" else "cuda"
DTYPES = [torch.float32, torch.float16] if DEVICE == "cpu" else [torch.float32, torch.float16, torch.bfloat16]
TOLERANCE = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 2e-2}


def normal(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(*shape, device=DEVICE).to(dtype)


def nan(*shape: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.full(shape, float("nan"), dtype=dtype, device=DEVICE)


def ints(*values: int) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.int32, device=DEVICE)


def close(got: torch.Tensor, want: torch.Tensor, dtype: torch.dtype = torch.float32) -> None:
    torch.testing.assert_close(got, want, rtol=TOLERANCE[dtype], atol=TOLERANCE[dtype])


class Paged:
    """A cache of scattered blocks that holds the given contexts."""

    def __init__(
        self, contexts: list[int], kv_heads: int, size: int, dtype: torch.dtype, block_tokens: int = 16
    ) -> None:
        widest = max(-(-c // block_tokens) for c in contexts)
        blocks = torch.randperm(widest * len(contexts) + 3, device=DEVICE).to(torch.int32)
        self.tables = blocks[: widest * len(contexts)].view(len(contexts), widest).contiguous()
        self.context = ints(*contexts)
        self.key = normal(len(blocks) * block_tokens, kv_heads, size, dtype=dtype)
        self.value = normal(len(blocks) * block_tokens, kv_heads, size, dtype=dtype)
        self.options = {"scale": size**-0.5, "block_tokens": block_tokens}

    def decode(self, query: torch.Tensor, window: int = 0, rows: slice = slice(None)) -> torch.Tensor:
        out = nan(*query.shape, dtype=query.dtype)
        heads, size = query.shape[1:]
        partial = decode_workspace(len(query), heads, size, self.tables.shape[1] * 16 + CHUNK, DEVICE)
        tables = self.tables[rows].contiguous()
        decode_attention_triton(
            query, self.key, self.value, tables, self.context[rows], out, window=window, partial=partial, **self.options
        )
        return out


def draws(
    operation: Callable[..., None], logits: torch.Tensor, seeds: list[int], positions: list[int], **filters: float
) -> tuple[torch.Tensor, torch.Tensor]:
    rows = len(logits)
    out, logprob = ints(*[-1] * rows), nan(rows)
    operation(
        logits,
        out,
        temperature=torch.full((rows,), filters.get("temperature", 1.0), device=DEVICE),
        top_k=ints(*[int(filters.get("top_k", 0))] * rows),
        top_p=torch.full((rows,), filters.get("top_p", 1.0), device=DEVICE),
        min_p=torch.full((rows,), filters.get("min_p", 0.0), device=DEVICE),
        seed=torch.tensor(seeds, dtype=torch.int64, device=DEVICE),
        position=ints(*positions),
        logprob=logprob,
    )
    return out, logprob
