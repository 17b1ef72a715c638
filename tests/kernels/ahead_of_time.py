"""Compile every Triton kernel for every target, without a GPU, and say what a program of it takes.

    PYTHONPATH=kernels python tests/kernels/ahead_of_time.py            a table
    PYTHONPATH=kernels python tests/kernels/ahead_of_time.py --json     for the test beside it

What is compiled is what the launchers launch: they run on tensors without memory, and their launches are recorded.
A process of its own: the interpreter, which other tests use, and the compiler cannot share one.
"""

import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from itertools import repeat
from pathlib import Path
from types import ModuleType
from typing import Any

os.environ.pop("TRITON_INTERPRET", None)
os.environ["TRITON_ALWAYS_COMPILE"] = "1"

import torch
import triton
from aruntime_kernels import (
    decode_attention,
    likely,
    logits,
    mask,
    pool,
    prefill_attention,
    rms_norm,
    rotary,
    sample,
    silu_mul,
    store_kv,
)
from torch import bfloat16, float32, int32, int64
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
TYPES = {bfloat16: "*bf16", float32: "*fp32", int32: "*i32", int64: "*i64"}
INSPECT = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
TOKENS, BLOCK_TOKENS, BLOCKS = 64, 16, 512


@dataclass
class Launch:
    """One launch: the kernel, its arguments by name, and the compiler's options."""

    kernel: Any
    arguments: dict[str, Any]
    options: dict[str, Any]


@dataclass
class Resources:
    """What one program takes. `spill_bytes` lie in memory; `scalar_spills` (AMD) in the lanes of vector registers."""

    kernel: str
    target: str
    registers: int
    shared_bytes: int
    spill_bytes: int
    scalar_spills: int = 0


class Recorder:
    """Stands in a kernel's place and keeps what it would have been launched with."""

    def __init__(self, kernel: Any, launches: list[Launch]) -> None:
        self._kernel, self._launches = kernel, launches

    def __getitem__(self, grid: object) -> Callable[..., None]:
        def launch(*values: object, **named: object) -> None:
            arguments = dict(zip(self._kernel.arg_names, values, strict=False))
            arguments |= {name: named.pop(name) for name in self._kernel.arg_names if name in named}
            self._launches.append(Launch(self._kernel, arguments, named))

        return launch


def launches_of(module: ModuleType, call: Callable[[], None]) -> list[Launch]:
    """The launches that `call`, an operation of `module`, makes."""
    kernels = {name: value for name, value in vars(module).items() if name.endswith("_kernel")}
    launches: list[Launch] = []
    for name, kernel in kernels.items():
        setattr(module, name, Recorder(kernel, launches))
    try:
        call()
    finally:
        for name, kernel in kernels.items():
            setattr(module, name, kernel)
    return launches


def empty(*shape: int, dtype: torch.dtype = bfloat16) -> torch.Tensor:
    return torch.empty(*shape, dtype=dtype, device="meta")


def ints(*shape: int) -> torch.Tensor:
    return empty(*shape, dtype=int32)


def floats(*shape: int) -> torch.Tensor:
    return empty(*shape, dtype=float32)


def decode(heads: int, kv_heads: int, size: int, window: int = 0) -> list[Launch]:
    query, cache = empty(TOKENS, heads, size), empty(BLOCKS * BLOCK_TOKENS, kv_heads, size)
    partial = decode_attention.decode_workspace(TOKENS, heads, size, BLOCKS * BLOCK_TOKENS, "meta")
    paged = (query, cache, cache, ints(TOKENS, BLOCKS), ints(TOKENS), query)
    options = {"scale": 0.1, "block_tokens": BLOCK_TOKENS, "window": window, "partial": partial}
    return launches_of(decode_attention, lambda: decode_attention.decode_attention_triton(*paged, **options))


def prefill(heads: int, kv_heads: int, size: int, window: int = 0) -> list[Launch]:
    query, cache = empty(TOKENS, heads, size), empty(BLOCKS * BLOCK_TOKENS, kv_heads, size)
    paged = (query, cache, cache, ints(2, BLOCKS), ints(3), ints(2), query)
    options = {"scale": 0.1, "block_tokens": BLOCK_TOKENS, "window": window}
    return launches_of(prefill_attention, lambda: prefill_attention.prefill_attention_triton(*paged, **options))


def normed(*shape: int, residual: bool) -> list[Launch]:
    x = empty(*shape)
    through = empty(*shape) if residual else None
    return launches_of(rms_norm, lambda: rms_norm.rms_norm_triton(x, empty(shape[-1]), x, eps=1e-5, residual=through))


def sampled(vocab: int) -> list[Launch]:
    rows = {"temperature": floats(8), "top_p": floats(8), "min_p": floats(8), "top_k": ints(8), "position": ints(8)}
    seed, scores, out, logprob = empty(8, dtype=int64), floats(8, vocab), ints(8), floats(8)
    return launches_of(sample, lambda: sample.sample_triton(scores, out, seed=seed, logprob=logprob, **rows))


def every_launch() -> dict[str, Launch]:
    """All kernels at the shapes of Llama-3-8B, and attention also where it is tightest."""
    key, cache, scores = empty(TOKENS, 8, 128), empty(8192, 8, 128), floats(8, 128256)
    pairs, penalties = (ints(32), ints(32)), (floats(8), floats(8), floats(8))
    named = {
        "decode": decode(32, 8, 128)[:1],
        "decode-merge": decode(32, 8, 128)[1:],
        "decode-window": decode(32, 8, 128, window=4096)[:1],
        "decode-padded-window": decode(14, 2, 80, window=4096)[:1],
        "decode-256": decode(8, 4, 256)[:1],
        "prefill": prefill(32, 8, 128),
        "prefill-window": prefill(32, 8, 128, window=4096),
        "prefill-padded": prefill(14, 2, 80),
        "prefill-padded-window": prefill(14, 2, 80, window=4096),
        "prefill-256": prefill(8, 4, 256),
        "prefill-64": prefill(14, 2, 64),
        "store_kv": launches_of(store_kv, lambda: store_kv.store_kv_triton(key, key, cache, cache, ints(TOKENS))),
        "rms_norm": normed(TOKENS, 4096, residual=True),
        "rms_norm-head": normed(TOKENS, 8, 128, residual=False),
        "rotary": launches_of(
            rotary, lambda: rotary.rotary_triton(empty(TOKENS, 32, 128), key, ints(TOKENS), floats(8192, 128))
        ),
        "silu_mul": launches_of(
            silu_mul, lambda: silu_mul.silu_mul_triton(empty(TOKENS, 2 * 14336), empty(TOKENS, 14336))
        ),
        "penalize": launches_of(logits, lambda: logits.penalize_triton(scores, *pairs, *pairs, *penalties)),
        "ban": launches_of(logits, lambda: logits.ban_triton(scores, *pairs)),
        "bias": launches_of(logits, lambda: logits.bias_triton(scores, *pairs, floats(32))),
        "pool": launches_of(
            pool, lambda: pool.pool_triton(key[:, 0], *(ints(8) for _ in range(5)), floats(64, 128), floats(8, 128))
        ),
        "likely": launches_of(
            likely, lambda: likely.likely_triton(scores, *pairs, floats(32), ints(32, 20), floats(32, 20))
        ),
        "mask": launches_of(mask, lambda: mask.mask_triton(scores, ints(8), ints(8, 4008))),
        "sample": sampled(128256),
    }
    starved = prefill(32, 8, 128)[0]
    starved.options["maxnreg"] = 96  # too few: shows that spills are found
    return {name: launch for name, (launch,) in named.items()} | {"starved": starved}


def compiled(launch: Launch, target: GPUTarget) -> Any:
    signature, constants, attributes = {}, {}, {}
    for parameter in launch.kernel.params:
        value = launch.arguments[parameter.name]
        if parameter.is_constexpr:
            signature[parameter.name], constants[parameter.name] = "constexpr", value
        elif isinstance(value, torch.Tensor):
            signature[parameter.name] = TYPES[value.dtype]
            attributes[(parameter.num,)] = [["tt.divisibility", 16]]  # as torch allocates
        else:
            signature[parameter.name] = "fp32" if isinstance(value, float) else "i32"
            if isinstance(value, int) and value % 16 == 0 and not parameter.do_not_specialize:
                attributes[(parameter.num,)] = [["tt.divisibility", 16]]
    return triton.compile(ASTSource(launch.kernel, signature, constants, attributes), target, launch.options)


def measure(name: str, target: str, folder: Path) -> Resources:
    """Compile one launch for one target; `folder` is for the compiler's own files."""
    binary = compiled(every_launch()[name], TARGETS[target])
    shared = binary.metadata.shared
    if "amdgcn" in binary.asm:
        found = numbers(r"\.(\w+):\s+(\d+)\s*$", binary.asm["amdgcn"])
        spill_bytes = 4 * found["vgpr_spill_count"] + found["private_segment_fixed_size"]
        return Resources(name, target, found["vgpr_count"], shared, spill_bytes, found["sgpr_spill_count"])
    path = folder / f"{name}-{target}.cubin"
    path.write_bytes(binary.asm["cubin"])
    text = subprocess.run([INSPECT, "-res-usage", path], check=True, capture_output=True, text=True).stdout
    found = numbers(r"(REG|STACK|LOCAL):(\d+)", text)
    return Resources(name, target, found["REG"], shared, found["STACK"] + found["LOCAL"])  # ptxas spills to the stack


def numbers(pattern: str, text: str) -> dict[str, int]:
    return {key: int(value) for key, value in re.findall(pattern, text, re.MULTILINE)}


def main() -> None:
    wanted = [(name, target) for name in every_launch() for target in (["sm_90"] if name == "starved" else TARGETS)]
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor() as compilers:
        os.environ["TRITON_CACHE_DIR"] = folder
        for used in map(asdict, compilers.map(measure, *zip(*wanted, strict=True), repeat(Path(folder)))):
            print(json.dumps(used) if "--json" in sys.argv else "  ".join(f"{k} {v}" for k, v in used.items()))


if __name__ == "__main__":
    main()
