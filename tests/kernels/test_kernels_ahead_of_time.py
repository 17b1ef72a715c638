"""Every kernel compiles for every target on a machine without a GPU, and keeps its values in registers."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent / "ahead_of_time.py"
KERNELS = 10


@pytest.mark.slow
@pytest.mark.parametrize("target", ["sm_80", "sm_90", "sm_100", "gfx942"])
def test_every_kernel_compiles_without_spills(target: str, tmp_path: Path) -> None:
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    environment["TRITON_CACHE_DIR"] = str(tmp_path)
    run = subprocess.run([sys.executable, SCRIPT, target], env=environment, capture_output=True, text=True, timeout=110)
    assert run.returncode == 0, run.stderr[-2000:]
    compiled = [json.loads(line) for line in run.stdout.splitlines()]
    for kernel in compiled:
        print(kernel)
    assert len(compiled) == KERNELS
    assert [kernel for kernel in compiled if kernel["spills"]] == []
