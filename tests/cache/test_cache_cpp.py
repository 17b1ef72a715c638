"""Builds and runs the C++ tests of the block pool and its prefixes, under AddressSanitizer and UBSan."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

HERE = Path(__file__).parent
HEADERS = HERE.parent.parent / "csrc"
COMPILER = os.environ.get("CXX") or shutil.which("g++") or "c++"
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def build(name: str, folder: Path, *flags: str) -> Path:
    program = folder / name
    options = ["-std=c++20", "-O1", "-g1", "-Wall", "-Wextra", "-Werror", *flags]
    command = [COMPILER, *options, f"-I{HEADERS}", str(HERE / "cpp" / f"{name}.cpp"), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return program


def run(program: Path, *arguments: str) -> None:
    ran = subprocess.run([str(program), *arguments], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build("drive", tmp_path_factory.mktemp("drive"), *SANITIZE)


def test_every_part_does_what_the_plainest_thing_does_and_every_rule_of_the_pool_holds(tmp_path: Path) -> None:
    run(build("parts", tmp_path, *SANITIZE, "-Wconversion"))


def test_nothing_is_allocated_once_a_pool_is_made(tmp_path: Path) -> None:
    # GCC takes the test's own operator new, once inlined, for a malloc that delete must not see.
    run(build("allocations", tmp_path, "-Wno-mismatched-new-delete"))


@pytest.mark.parametrize("hashes", ["keyed", "two", "same"])
@pytest.mark.parametrize("seed", range(5))
def test_a_random_drive_finds_exactly_what_was_written_even_if_hashes_are_equal(
    drive: Path, seed: int, hashes: str
) -> None:
    run(drive, str(seed), "20000", hashes)
