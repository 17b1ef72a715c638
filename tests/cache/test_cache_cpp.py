"""Builds and runs the C++ tests of the block pool and its prefixes, under AddressSanitizer and UBSan."""

from pathlib import Path

import pytest
from native import SANITIZE, build, passes

CPP = Path(__file__).parent / "cpp"


@pytest.fixture(scope="module")
def drive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(CPP / "drive.cpp", tmp_path_factory.mktemp("drive"), *SANITIZE)


def test_every_part_does_what_the_plainest_thing_does_and_every_rule_of_the_pool_holds(tmp_path: Path) -> None:
    passes(build(CPP / "parts.cpp", tmp_path, *SANITIZE, "-Wconversion"))


def test_nothing_is_allocated_once_a_pool_is_made(tmp_path: Path) -> None:
    # GCC takes the test's own operator new, once inlined, for a malloc that delete must not see.
    passes(build(CPP / "allocations.cpp", tmp_path, "-O1", "-Wno-mismatched-new-delete"))


@pytest.mark.parametrize("hashes", ["keyed", "two", "same"])
@pytest.mark.parametrize("seed", range(5))
def test_a_random_drive_finds_exactly_what_was_written_even_if_hashes_are_equal(
    drive: Path, seed: int, hashes: str
) -> None:
    passes(drive, str(seed), "20000", hashes)
