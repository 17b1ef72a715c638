"""Builds and runs the C++ tests of the block pool and the scheduler, under AddressSanitizer and UBSan."""

from pathlib import Path

import pytest
from native import SANITIZE, build, passes

CPP = Path(__file__).parent / "cpp"


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(CPP / "drive.cpp", tmp_path_factory.mktemp("drive"), *SANITIZE, "-Wconversion")


def test_every_part_does_what_the_plainest_thing_does(tmp_path: Path) -> None:
    passes(build(CPP / "parts.cpp", tmp_path, *SANITIZE))


def test_nothing_is_allocated_between_submit_and_end(tmp_path: Path) -> None:
    # GCC takes the test's own operator new, once inlined, for a malloc that delete must not see.
    passes(build(CPP / "allocations.cpp", tmp_path, "-O1", "-Wno-mismatched-new-delete"))


@pytest.mark.parametrize("seed", range(4))
def test_a_random_drive_keeps_the_books_and_ends_every_sequence_once(drive: Path, seed: int) -> None:
    passes(drive, str(seed), "10000")
