"""Builds and runs the C++ tests of the rule and of the bucket: AddressSanitizer, UBSan, ThreadSanitizer."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
HEADERS = HERE.parent.parent / "csrc"
COMPILER = os.environ.get("CXX") or shutil.which("g++") or "c++"


@pytest.mark.parametrize(
    ("name", "sanitize"), [("rule", "address,undefined"), ("bucket", "address,undefined"), ("bucket", "thread")]
)
def test_the_rule_of_the_door_in_cpp(tmp_path: Path, name: str, sanitize: str) -> None:
    options = ["-std=c++20", "-O1", "-g1", "-Wall", "-Wextra", "-Werror", f"-fsanitize={sanitize}", "-pthread"]
    options += ["-fno-sanitize-recover=all", f"-I{HEADERS}"]
    program = tmp_path / name
    command = [COMPILER, *options, str(HERE / "cpp" / f"{name}.cpp"), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    ran = subprocess.run([str(program)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
