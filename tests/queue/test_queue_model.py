"""Checks ring.pml with Spin: every interleaving of ring, bell, store buffers and kill -9; and that it can fail."""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

MODEL = Path(__file__).parent / "ring.pml"
MUTANTS = re.findall(r"MUTANT_\w+(?=\n)", MODEL.read_text())

pytestmark = pytest.mark.skipif(
    shutil.which("spin") is None and not os.environ.get("CI"), reason="the Spin model checker is not installed"
)


def check(folder: Path, *defines: str) -> str:
    """What the verifier says after it has seen every state that can be reached."""
    subprocess.run(["spin", "-a", *defines, str(MODEL)], cwd=folder, check=True, capture_output=True)
    # No partial order reduction: `timeout` and `unless` do not go with it.
    build = [os.environ.get("CC", "gcc"), "-O2", "-w", "-DSAFETY", "-DNOREDUCE", "-o", "pan", "pan.c"]
    subprocess.run(build, cwd=folder, check=True)
    return subprocess.run(["./pan", "-m100000"], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_no_interleaving_loses_a_wake_up_tears_a_message_or_wedges_whoever_is_killed(tmp_path: Path) -> None:
    said = check(tmp_path)
    assert "errors: 0" in said
    assert "max search depth too small" not in said
    # All was reached but the end of the memory, which never ends.
    assert re.findall(r"state \d+, \"(.*)\"", said) == ["-end-"]
    print(re.search(r"\d+ states, stored", said)[0])  # type: ignore[index]


@pytest.mark.parametrize("mutant", MUTANTS)
def test_the_proof_fails_without(tmp_path: Path, mutant: str) -> None:
    assert len(MUTANTS) == 4
    assert "assertion violated" in check(tmp_path, f"-D{mutant}")
