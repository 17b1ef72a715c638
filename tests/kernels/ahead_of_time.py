"""Compiles every Triton kernel ahead of time for every target, without a GPU, and prints what each takes.

    python tests/kernels/ahead_of_time.py [sm_80 sm_90 sm_100 gfx942]

One JSON object a line: kernel, target, registers, shared (bytes), spills (bytes, or registers on AMD). In bfloat16, as
on a GPU; a process of its own, since a process that runs the interpreter cannot compile.
"""

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from aruntime_kernels import decode_attention, logits, prefill_attention, rms_norm, rotary, sample, silu_mul, store_kv
from aruntime_kernels._triton import OPTIONS
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

TARGETS = {
    "sm_80": GPUTarget("cuda", 80, 32),
    "sm_90": GPUTarget("cuda", 90, 32),
    "sm_100": GPUTarget("cuda", 100, 32),
    "gfx942": GPUTarget("hip", "gfx942", 64),
}
BF16, F32, I32, I64 = "*bf16", "*fp32", "*i32", "*i64"
_HEAD = {"SIZE": 128, "BLOCK_SIZE": 128, "WINDOW": 0}
_PAGED = {**_HEAD, "KV_HEADS": 8, "BLOCK_TOKENS": 16, "TILE": 64}

# kernel, types of its arguments in order, constants, launch options: as the launchers give them for an 8 B Llama.
KERNELS: list[tuple[Any, list[str], dict[str, Any], dict[str, int]]] = [
    (rms_norm._rms_norm_kernel, [BF16] * 4 + ["i32"] * 6 + ["fp32"],
     {"SIZE": 4096, "BLOCK": 4096, "RESIDUAL": True}, {"num_warps": 8}),
    (silu_mul._silu_mul_kernel, [BF16, BF16, "i32", "i32", "i32"], {"BLOCK": 1024}, {"num_warps": 4}),
    (rotary._rotary_kernel, [BF16, BF16, I32, F32] + ["i32"] * 5, {"HALF": 64, "BLOCK": 64}, {"num_warps": 1}),
    (store_kv._store_kv_kernel, [BF16] * 4 + [I32] + ["i32"] * 4,
     {"HEADS": 8, "SIZE": 128, "BLOCK": 1024}, {"num_warps": 4}),
    (logits._penalize_kernel, [F32, I32, I32, I32, I32, F32, F32, F32, "i32", "i32"], {"BLOCK": 128}, {"num_warps": 4}),
    (logits._ban_kernel, [F32, I32, I32, "i32", "i32"], {"BLOCK": 128}, {"num_warps": 4}),
    (decode_attention._decode_kernel, [BF16, BF16, BF16, I32, I32, BF16, F32, "fp32"] + ["i32"] * 7,
     {**_PAGED, "GROUP": 4, "BLOCK_GROUP": 16, "CHUNK": 256}, {"num_warps": 4, "num_stages": 2}),
    (decode_attention._merge_kernel, [I32, BF16, F32] + ["i32"] * 4, {**_HEAD, "CHUNK": 256}, {"num_warps": 2}),
    (prefill_attention._prefill_kernel, [BF16, BF16, BF16, I32, I32, I32, BF16, "fp32"] + ["i32"] * 6,
     {**_PAGED, "GROUP": 4, "QUERIES": 64}, {"num_warps": 8, "num_stages": 3}),
    (sample._sample_kernel, [F32, I32, F32, I32, F32, F32, I64, I32, F32, "i32", "i32"],
     {"LOGPROB": True, "BLOCK": sample._BLOCK}, {"num_warps": 16}),
]  # fmt: skip


def compile_one(kernel: Any, types: list[str], constants: dict[str, Any], launch: dict[str, int], name: str) -> Any:
    """The compiled kernel for one target. Pointers are aligned to 16 bytes, as torch's are."""
    arguments = [argument for argument in kernel.arg_names if argument not in constants]
    assert len(arguments) == len(types), f"{kernel.__name__} takes {arguments}"
    signature = {**dict(zip(arguments, types, strict=True)), **dict.fromkeys(constants, "constexpr")}
    order = {argument: signature[argument] for argument in kernel.arg_names}
    aligned = {(i,): [["tt.divisibility", 16]] for i, kind in enumerate(order.values()) if kind.startswith("*")}
    source = ASTSource(fn=kernel, signature=order, constexprs=constants, attrs=aligned)
    return triton.compile(source, target=TARGETS[name], options={**launch, **OPTIONS})


def resources(compiled: Any, name: str) -> dict[str, int]:
    """Registers, shared memory and spills."""
    if name.startswith("gfx"):
        text = compiled.asm["amdgcn"]
        count = {key: int(re.search(rf"\.{key}:\s+(\d+)", text)[1]) for key in
                 ("vgpr_count", "vgpr_spill_count", "sgpr_spill_count")}  # type: ignore[index]  # fmt: skip
        spills = count["vgpr_spill_count"] + count["sgpr_spill_count"]
        return {"registers": count["vgpr_count"], "shared": compiled.metadata.shared, "spills": spills}
    dump = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        text = subprocess.run([dump, "-res-usage", file.name], check=True, capture_output=True, text=True).stdout
    found = {key: int(value) for key, value in re.findall(r"\b(REG|STACK|LOCAL):(\d+)", text)}
    return {
        "registers": found["REG"],
        "shared": compiled.metadata.shared,
        "spills": found["STACK"] + found["LOCAL"],
    }


def main() -> None:
    for name in sys.argv[1:] or TARGETS:
        for kernel, types, constants, launch in KERNELS:
            compiled = compile_one(kernel, types, constants, launch, name)
            print(json.dumps({"kernel": kernel.__name__, "target": name, **resources(compiled, name)}), flush=True)


if __name__ == "__main__":
    main()
