"""The enumerations of Python and of C++ are the same ones."""

import re
from enum import IntEnum
from pathlib import Path

import pytest

from aruntime.queue.records import FinishReason, Priority

HEADER = (Path(__file__).parents[2] / "csrc" / "queue" / "records.hpp").read_text()


@pytest.mark.parametrize("kind", [FinishReason, Priority])
def test_python_and_cpp_agree_on(kind: type[IntEnum]) -> None:
    body = re.search(rf"enum class {kind.__name__} : [\w:]+ \{{(.*?)\}};", HEADER, re.DOTALL)
    assert body is not None
    said = {
        re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper(): int(value)
        for name, value in re.findall(r"\bk(\w+) = (\d+)", body[1])
    }
    assert said == {member.name: member.value for member in kind}
