"""Builds and runs the C++ tests of the rule and of the bucket: AddressSanitizer, UBSan, ThreadSanitizer."""

from pathlib import Path

import pytest
from native import SANITIZE, build, passes

CPP = Path(__file__).parent / "cpp"
THREAD = ("-O1", "-fsanitize=thread", "-pthread")


@pytest.mark.parametrize(
    ("name", "flags"),
    [("rule", SANITIZE), ("bucket", (*SANITIZE, "-pthread")), ("bucket", THREAD)],
    ids=["rule", "bucket", "bucket, thread"],
)
def test_the_rule_of_the_door_in_cpp(tmp_path: Path, name: str, flags: tuple[str, ...]) -> None:
    passes(build(CPP / f"{name}.cpp", tmp_path, *flags))
