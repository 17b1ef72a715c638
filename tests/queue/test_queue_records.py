"""The enumerations of Python and of C++ are the same ones."""

import re
from enum import IntEnum
from pathlib import Path

import pytest

from aruntime.admission.refusals import Refusal
from aruntime.queue.records import FinishReason, Priority

HEADERS = "".join(path.read_text() for path in (Path(__file__).parents[2] / "csrc").rglob("*.hpp"))


@pytest.mark.parametrize("kind", [FinishReason, Priority, Refusal])
def test_python_and_cpp_agree_on(kind: type[IntEnum]) -> None:
    body = re.search(rf"enum class {kind.__name__} : [\w:]+ \{{(.*?)\}};", HEADERS, re.DOTALL)
    assert body is not None
    said = {
        re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper(): int(value)
        for name, value in re.findall(r"\bk(\w+) = (\d+)", body[1])
    }
    assert said == {member.name: member.value for member in kind}
