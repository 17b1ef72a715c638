"""Each operation on a GPU against the bytes that it must move, in shapes of an 8 B Llama.

A figure is the median of CUDA graph replays; the ceiling is what a plain copy of 4 GiB reaches in the same run. Caches
are over 1 GiB and their blocks are shuffled, since a smaller one would be read from the L2.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
import triton
from aruntime_kernels.decode_attention import decode_attention, decode_workspace
from aruntime_kernels.prefill_attention import prefill_attention
from aruntime_kernels.rms_norm import rms_norm
from aruntime_kernels.rotary import rotary
from aruntime_kernels.sample import sample
from aruntime_kernels.silu_mul import silu_mul
from aruntime_kernels.store_kv import store_kv
from torch.nn import functional

HEADS, KV_HEADS, SIZE, BLOCK_TOKENS = 32, 8, 128, 16


@dataclass(frozen=True)
class Case:
    """One operation at one shape: what to run, the bytes or floating-point operations it must take, and its peers."""

    name: str
    run: Callable[[], None]
    bytes: float = 0.0
    operations: float = 0.0
    peers: dict[str, Callable[[], object]] = field(default_factory=dict)


def normal(*shape: int, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    return torch.randn(*shape, device="cuda", dtype=dtype)


def cases() -> Iterator[Case]:
    """Every case, made when its turn comes and freed after it."""
    for sequences, context in ((64, 1024), (64, 8192), (256, 8192)):
        yield _decode(f"{sequences} x {context}", [context] * sequences)
    yield _decode("64 x 128 to 16384, skewed", [int(128 * 128 ** (i / 63)) for i in range(64)])
    yield _prefill(8192)
    x, weight, out, residual = normal(8192, 4096), normal(4096), normal(8192, 4096), normal(8192, 4096)
    yield Case(
        "rms_norm + residual 8192 x 4096",
        lambda: rms_norm(x, weight, out, eps=1e-5, residual=residual),
        4 * x.nbytes,
        peers={"torch": lambda: functional.rms_norm(residual.add_(x), (4096,), weight, 1e-5)},
    )
    gate_up, activated = normal(8192, 2 * 14336), normal(8192, 14336)
    yield Case(
        "silu_mul 8192 x 14336",
        lambda: silu_mul(gate_up, activated),
        3 * activated.nbytes,
        peers={"torch": lambda: functional.silu(gate_up[:, :14336]) * gate_up[:, 14336:]},
    )
    yield from _small()
    for rows, filters in ((256, {}), (256, {"top_k": 50, "top_p": 0.9, "min_p": 0.02})):
        yield _sample(rows, filters)


def _decode(name: str, contexts: list[int]) -> Case:
    tables, cache = _cache(contexts)
    query = normal(len(contexts), HEADS, SIZE)
    out = torch.empty_like(query)
    lengths = torch.tensor(contexts, dtype=torch.int32, device="cuda")
    partial = decode_workspace(len(contexts), HEADS, SIZE, max(contexts), "cuda")
    return Case(
        f"decode_attention {name}",
        lambda: decode_attention(
            query, *cache, tables, lengths, out, scale=SIZE**-0.5, block_tokens=BLOCK_TOKENS, partial=partial
        ),
        4.0 * KV_HEADS * SIZE * sum(contexts),
        peers=_flashinfer(query, cache, tables, contexts),
    )


def _flashinfer(
    query: torch.Tensor, cache: tuple[torch.Tensor, torch.Tensor], tables: torch.Tensor, contexts: list[int]
) -> dict[str, Callable[[], object]]:
    """FlashInfer over the same blocks, planned beforehand, where it is installed."""
    try:
        from flashinfer import BatchDecodeWithPagedKVCacheWrapper
    except ImportError:
        return {}
    counts = [-(-context // BLOCK_TOKENS) for context in contexts]
    start = torch.tensor([0, *counts], dtype=torch.int32, device="cuda").cumsum(0, dtype=torch.int32)
    blocks = torch.cat([table[:count] for table, count in zip(tables, counts, strict=True)])
    last = torch.tensor([(context - 1) % BLOCK_TOKENS + 1 for context in contexts], dtype=torch.int32, device="cuda")
    room = torch.empty(256 << 20, dtype=torch.uint8, device="cuda")
    peer = BatchDecodeWithPagedKVCacheWrapper(room, "NHD", use_tensor_cores=True)
    peer.plan(
        start, blocks, last, HEADS, KV_HEADS, SIZE, BLOCK_TOKENS, q_data_type=query.dtype, kv_data_type=query.dtype
    )
    paged = tuple(half.view(-1, BLOCK_TOKENS, KV_HEADS, SIZE) for half in cache)
    return {"flashinfer": lambda: peer.run(query, paged)}


def _prefill(tokens: int) -> Case:
    tables, cache = _cache([tokens])
    query = normal(tokens, HEADS, SIZE)
    out = torch.empty_like(query)
    start = torch.tensor([0, tokens], dtype=torch.int32, device="cuda")
    heads_first = [tensor.transpose(0, 1)[None] for tensor in (query, *(half[:tokens] for half in cache))]
    return Case(
        f"prefill_attention causal {tokens}",
        lambda: prefill_attention(
            query, *cache, tables, start, start[1:], out, scale=SIZE**-0.5, block_tokens=BLOCK_TOKENS
        ),
        operations=2.0 * HEADS * SIZE * tokens**2,
        peers={
            "torch sdpa, cache in one piece": lambda: functional.scaled_dot_product_attention(
                *heads_first, is_causal=True, enable_gqa=True
            )
        },
    )


def _cache(contexts: list[int]) -> tuple[torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
    """Tables over shuffled blocks, and caches of at least 1 GiB together."""
    widest = -(-max(contexts) // BLOCK_TOKENS)
    needed = [-(-context // BLOCK_TOKENS) for context in contexts]
    blocks = max(sum(needed), (1 << 30) // (4 * KV_HEADS * SIZE * BLOCK_TOKENS))
    shuffled = torch.randperm(blocks, device="cuda").to(torch.int32).split([*needed, blocks - sum(needed)])
    tables = torch.stack([functional.pad(ids, (0, widest - len(ids))) for ids in shuffled[: len(needed)]])
    shape = (blocks * BLOCK_TOKENS, KV_HEADS, SIZE)
    return tables, (normal(*shape), normal(*shape))


def _small() -> Iterator[Case]:
    fused = normal(256, HEADS + 2 * KV_HEADS, SIZE)
    query, key, value = fused.split([HEADS, KV_HEADS, KV_HEADS], dim=1)
    positions = torch.arange(256, dtype=torch.int32, device="cuda")
    table = normal(8192, SIZE, dtype=torch.float32)
    cache = (normal(1 << 16, KV_HEADS, SIZE), normal(1 << 16, KV_HEADS, SIZE))

    def both() -> None:
        rotary(query, key, positions, table)
        store_kv(key, value, *cache, positions)

    yield Case("rotary + store_kv 256 tokens", both, 2.0 * fused.nbytes)


def _sample(rows: int, filters: dict[str, float]) -> Case:
    logits = normal(rows, 128_256, dtype=torch.float32)
    out = torch.empty(rows, dtype=torch.int32, device="cuda")
    arguments = {
        "temperature": torch.full((rows,), 0.8, device="cuda"),
        "top_k": torch.full((rows,), int(filters.get("top_k", 0)), dtype=torch.int32, device="cuda"),
        "top_p": torch.full((rows,), filters.get("top_p", 1.0), device="cuda"),
        "min_p": torch.full((rows,), filters.get("min_p", 0.0), device="cuda"),
        "seed": torch.arange(rows, device="cuda"),
        "position": torch.zeros(rows, dtype=torch.int32, device="cuda"),
    }
    name = f"sample {rows} x 128256" + (", top_k, top_p, min_p" if filters else "")
    return Case(
        name,
        lambda: sample(logits, out, **arguments),
        logits.nbytes,
        peers={"torch softmax + multinomial, unfiltered": lambda: logits.softmax(-1).multinomial(1)},
    )


def copy_bytes_per_s() -> float:
    """What a plain copy reaches: bytes read and written a second."""
    source = torch.empty(1 << 31, dtype=torch.uint8, device="cuda")
    to = torch.empty_like(source)
    return 2 * source.nbytes / median_s(lambda: to.copy_(source))


def median_s(run: Callable[[], object]) -> float:
    """Median seconds of one run, as a replayed CUDA graph."""
    return float(triton.testing.do_bench_cudagraph(run, rep=100, return_mode="median")) / 1e3
