"""The soak of bench/soak for twelve seconds: whatever the machine, nothing is lost and everything given back."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent


@pytest.mark.slow
def test_beside_clients_that_misbehave_no_good_stream_fails_and_everything_is_given_back() -> None:
    command = [sys.executable, ROOT / "bench/soak/run.py", "--minutes", "0.2"]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=110)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "good streams came whole" in ran.stdout
