"""Builds and runs the C++ tests of the CPU operations: the pool under TSan, everything else under ASan and UBSan."""

from pathlib import Path

import pytest
from native import HEADERS, SANITIZE, build, passes, run

CPP = Path(__file__).parent / "cpp"
QUIET = ("-Wno-psabi", "-Wno-unused-function")


@pytest.fixture(scope="module")
def operations(tmp_path_factory: pytest.TempPathFactory) -> Path:
    parts = tuple((HEADERS / "cpu").glob("*.cpp"))
    return build(CPP / "operations.cpp", tmp_path_factory.mktemp("operations"), *SANITIZE, *QUIET, parts=parts)


@pytest.mark.slow
@pytest.mark.parametrize("instruction_set", ["avx512", "avx2", "portable"])
def test_no_operation_steps_beyond_what_it_was_given(operations: Path, instruction_set: str) -> None:
    ran = run(operations, instruction_set)
    if ran.returncode == 77:
        pytest.skip(f"this processor has no {instruction_set}")
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_every_chunk_runs_once_and_is_seen_by_its_caller(tmp_path: Path) -> None:
    parts = (HEADERS / "cpu" / "pool.cpp",)
    passes(build(CPP / "pool.cpp", tmp_path, "-O1", "-fsanitize=thread", *QUIET, parts=parts))
