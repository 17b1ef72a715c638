"""What the CPU operations cost, beside torch and oneDNN in the same run on the same threads.

    python -m pytest bench/bench_cpu.py --benchmark-enable

Linear layers are those of the 125 M model (hidden 768, intermediate 2048) and one of 8192 x 2048; weights are taken in
turn from more than the caches hold, as a model takes them. One row is judged against the bandwidth of memory, 512
against the processor's arithmetic. `oneDNN` has its weight packed, as ours has.
"""

import itertools
import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from aruntime_kernels import cpu
from aruntime_kernels.decode_attention import decode_attention
from aruntime_kernels.linear import linear, pack
from aruntime_kernels.sample import sample
from torch import Tensor

THREADS = int(os.environ.get("BENCH_THREADS", len(os.sched_getaffinity(0))))
WEIGHT_BYTES = 160 << 20  # beyond the last cache of most machines
LAYERS = [(1280, 768), (768, 768), (4096, 768), (768, 2048), (8192, 2048)]


@pytest.fixture(autouse=True)
def on_all_threads() -> Iterator[None]:
    cpu.set_threads(THREADS)
    torch.set_num_threads(THREADS)
    with torch.inference_mode():
        yield
    cpu.set_threads(1)


def ours(weight: Tensor, x: Tensor) -> Callable[[], object]:
    packed, out = pack(weight), torch.empty(len(x), len(weight))
    return lambda: linear(x, packed, out)


def torch_linear(weight: Tensor, x: Tensor) -> Callable[[], object]:
    x = x.to(weight.dtype)
    return lambda: torch.nn.functional.linear(x, weight)


def onednn(weight: Tensor, x: Tensor) -> Callable[[], object]:
    packed = torch.ops.mkldnn._reorder_linear_weight(weight, len(x))
    return lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], "")


KINDS = {
    "ours-fp32": (ours, torch.float32),
    "ours-bf16": (ours, torch.bfloat16),
    "torch-fp32": (torch_linear, torch.float32),
    "torch-bf16": (torch_linear, torch.bfloat16),
    "oneDNN-fp32": (onednn, torch.float32),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("outputs", "inputs"), LAYERS)
@pytest.mark.parametrize("rows", [1, 8, 32, 512])
def test_linear(benchmark: Any, kind: str, outputs: int, inputs: int, rows: int) -> None:
    make, dtype = KINDS[kind]
    weight, x = (torch.randn(outputs, inputs) * 0.02).to(dtype), torch.randn(rows, inputs)
    copies = min(64, max(1, WEIGHT_BYTES // weight.nbytes)) if rows < 512 else 1
    calls = itertools.cycle([make(weight.clone(), x) for _ in range(copies)])
    benchmark.group = f"linear {outputs} x {inputs}, {rows} rows"
    benchmark.pedantic(lambda: next(calls)(), rounds=40 if rows < 512 else 5, warmup_rounds=1)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["fp32", "bf16"])
@pytest.mark.parametrize(("sequences", "context"), [(1, 128), (8, 192), (32, 192), (1, 4096)])
@pytest.mark.benchmark(group="decode attention of one layer, 12 query heads over 4, head size 64")
def test_decode_attention(benchmark: Any, sequences: int, context: int, dtype: torch.dtype) -> None:
    blocks = sequences * -(-context // 16)
    caches = torch.randn(2, blocks * 16, 4, 64).to(dtype).unbind()
    tables = torch.randperm(blocks).reshape(sequences, -1).int()
    lengths = torch.full((sequences,), context, dtype=torch.int32)
    query = torch.randn(sequences, 12, 64)
    out = torch.empty_like(query)
    benchmark(lambda: decode_attention(query, *caches, tables, lengths, out, scale=0.125, block_tokens=16))


@pytest.mark.parametrize("filters", ["greedy", "all", "top-k", "top-p"])
@pytest.mark.parametrize("vocab", [32_000, 128_256])
@pytest.mark.benchmark(group="sample 8 rows")
def test_sample(benchmark: Any, vocab: int, filters: str) -> None:
    logits, out = torch.randn(8, vocab) * 3, torch.empty(8, dtype=torch.int32)
    params = {
        "temperature": torch.full((8,), 0.0 if filters == "greedy" else 0.8),
        "top_k": torch.full((8,), 50 if filters == "top-k" else 0, dtype=torch.int32),
        "top_p": torch.full((8,), 0.9 if filters == "top-p" else 1.0),
        "min_p": torch.zeros(8),
        "seed": torch.arange(8),
        "position": torch.zeros(8, dtype=torch.int32),
    }
    benchmark(lambda: sample(logits, out, **params))
