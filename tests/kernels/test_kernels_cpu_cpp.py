"""Builds and runs the C++ tests of the CPU operations: the pool under TSan, everything else under ASan and UBSan."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
HEADERS = HERE.parent.parent / "csrc"
COMPILER = os.environ.get("CXX") or shutil.which("g++") or "c++"


def build(name: str, sources: list[str], folder: Path, *flags: str) -> Path:
    program = folder / name
    options = ["-std=c++20", "-O1", "-g1", "-Wall", "-Wextra", "-Werror", "-Wno-psabi", "-Wno-unused-function", *flags]
    parts = [str(HERE / "cpp" / f"{name}.cpp"), *(str(HEADERS / "cpu" / source) for source in sources)]
    built = subprocess.run(
        [COMPILER, *options, f"-I{HEADERS}", *parts, "-o", str(program)], capture_output=True, text=True
    )
    assert built.returncode == 0, built.stderr
    return program


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sources = [source.name for source in (HEADERS / "cpu").glob("*.cpp")]
    sanitize = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    return build("operations", sources, tmp_path_factory.mktemp("operations"), *sanitize)


@pytest.mark.slow
@pytest.mark.parametrize("instruction_set", ["avx512", "avx2", "portable"])
def test_no_operation_steps_beyond_what_it_was_given(operations: Path, instruction_set: str) -> None:
    ran = subprocess.run([str(operations), instruction_set], capture_output=True, text=True)
    if ran.returncode == 77:
        pytest.skip(f"this processor has no {instruction_set}")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_chunk_runs_once_and_is_seen_by_its_caller(tmp_path: Path) -> None:
    program = build("pool", ["pool.cpp"], tmp_path, "-fsanitize=thread")
    ran = subprocess.run([str(program)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
