"""Every Triton kernel compiles for every target without a GPU and without a spill; `-rP` prints what each takes.

AMD is checked here only: no such device has run these kernels.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SHARED_BYTES_MAX = {"sm_80": 163 * 1024, "sm_90": 227 * 1024, "sm_100": 227 * 1024, "gfx942": 64 * 1024}
KERNELS = [
    *("decode", "decode-merge", "decode-window", "decode-padded-window", "decode-256"),
    *("prefill", "prefill-window", "prefill-padded", "prefill-padded-window", "prefill-256", "prefill-64"),
    *("store_kv", "rms_norm", "rms_norm-head", "rotary", "silu_mul", "penalize", "ban", "bias", "mask"),
    *("likely", "pool", "sample"),
]


@pytest.fixture(scope="module")
def resources() -> dict[tuple[str, str], dict[str, Any]]:
    script = Path(__file__).with_name("ahead_of_time.py")
    done = subprocess.run([sys.executable, script, "--json"], capture_output=True, text=True, timeout=550)
    assert done.returncode == 0, done.stderr[-4000:]
    every = [json.loads(line) for line in done.stdout.splitlines()]
    return {(used["kernel"], used["target"]): used for used in every}


@pytest.mark.timeout(600)
@pytest.mark.parametrize("target", SHARED_BYTES_MAX)
@pytest.mark.parametrize("kernel", KERNELS)
def test_a_kernel_compiles_without_a_spill(
    kernel: str, target: str, resources: dict[tuple[str, str], dict[str, Any]]
) -> None:
    used = resources[kernel, target]
    print(used)
    assert used["spill_bytes"] == 0
    assert used["shared_bytes"] <= SHARED_BYTES_MAX[target]


def test_every_compiled_kernel_is_asserted(resources: dict[tuple[str, str], dict[str, Any]]) -> None:
    assert {kernel for kernel, _ in resources} - {"starved"} == set(KERNELS)


def test_a_spill_is_seen_when_there_is_one(resources: dict[tuple[str, str], dict[str, Any]]) -> None:
    assert resources["starved", "sm_90"]["spill_bytes"] > 0
