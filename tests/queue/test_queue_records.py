"""The enumerations of Python and of C++ are the same ones."""

import re
from enum import IntEnum
from pathlib import Path

import pytest

from aruntime.admission.refusals import Refusal
from aruntime.queue import steering
from aruntime.queue.records import FinishReason, Pooling, Priority, RecordKind

HEADERS = "".join(path.read_text() for path in (Path(__file__).parents[2] / "csrc").rglob("*.hpp"))


@pytest.mark.parametrize("kind", [FinishReason, Pooling, Priority, RecordKind, Refusal])
def test_python_and_cpp_agree_on(kind: type[IntEnum]) -> None:
    body = re.search(rf"enum class {kind.__name__} : [\w:]+ \{{(.*?)\}};", HEADERS, re.DOTALL)
    assert body is not None
    said = {
        re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper(): int(value)
        for name, value in re.findall(r"\bk(\w+) = (\d+)", body[1])
    }
    assert said == {member.name: member.value for member in kind}


@pytest.mark.parametrize(
    "name", ["BIAS_PAIRS_MAX", "BAD_WORDS_MAX", "BAD_WORD_TOKENS_MAX", "GRAMMAR_BYTES_MAX", "TOP_LOGPROBS_MAX"]
)
def test_python_and_cpp_agree_on_the_bound(name: str) -> None:
    camel = "k" + "".join(part.capitalize() for part in name.split("_"))
    said = re.search(rf"\b{camel} = ([\d <]+);", HEADERS)
    assert said is not None
    assert eval(said[1]) == getattr(steering, name)
