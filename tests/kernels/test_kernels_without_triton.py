"""The package where Triton is not installed: it imports, the CPU works, and a launch says what is missing."""

import subprocess
import sys

SCRIPT = """
import sys
sys.modules["triton"] = None  # an import of it fails
import torch
from aruntime_kernels import decode_attention, logits, prefill_attention, rms_norm, rotary, sample, silu_mul, store_kv
out = torch.empty(2, 4)
silu_mul.silu_mul(torch.ones(2, 8), out)
assert bool((out > 0.7).all())
try:
    silu_mul.silu_mul_triton(torch.ones(2, 8), out)
except ModuleNotFoundError as missing:
    print(missing)
"""


def test_without_triton_the_cpu_works_and_a_launch_says_what_to_install() -> None:
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "a GPU needs triton: pip install 'aruntime[gpu]'\n"
