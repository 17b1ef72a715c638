"""Answers byte for byte against golden files, and against the openai package's own types."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from aruntime.base import errors
from aruntime.wire.answers import Answer, Usage
from aruntime.wire.errors import error_body, error_event
from aruntime.wire.said import Answered, Call, Finish, Reasoning, Said, Text

DOCS = Path(__file__).parent.parent.parent / "docs"
GOLDEN = Path(__file__).parent / "golden"
USAGE = Usage(prompt=7, completion=5, cached=4)


def answer(chat: bool, choices: int = 1, wants_usage: bool = False) -> Answer:
    return Answer(
        chat=chat,
        request_id="r1",
        model="demo",
        fingerprint="demo@3",
        created_s=1_700_000_000,
        choices=choices,
        wants_usage=wants_usage,
    )


def text(text: str) -> Said:
    return Said([Text(text)])


def stream(chat: bool, wants_usage: bool) -> bytes:
    """Two choices, one cut by its length."""
    made = answer(chat, 2, wants_usage)
    said = [made.begin(), made.add(0, text('a "b"\n')), made.add(1, text("é"))]
    return b"".join([*said, made.end(1, Finish("length")), made.end(0, Finish("stop")), made.done(USAGE)])


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "completion"])
@pytest.mark.parametrize("wants_usage", [True, False], ids=["usage", "plain"])
def test_a_stream_is_its_golden_file_byte_for_byte(chat: bool, wants_usage: bool) -> None:
    golden = GOLDEN / f"{'chat' if chat else 'completion'}_stream{'_usage' if wants_usage else ''}.txt"
    assert stream(chat, wants_usage).decode() == golden.read_text()


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "completion"])
def test_a_whole_answer_is_its_golden_file_byte_for_byte(chat: bool) -> None:
    answers = [Answered(text('a "b"\n'), Finish("stop")), Answered(text("é"), Finish("length"))]
    whole = answer(chat, 2).whole(answers, USAGE)
    assert whole.decode() + "\n" == (GOLDEN / f"{'chat' if chat else 'completion'}_whole.txt").read_text()


CALLS = [
    [Reasoning("Hm.")],
    [Reasoning(" Now."), Text("Let me see.")],
    [Call(0, "", "call_1", "weather"), Call(0, '{"city": ')],
    [Call(0, '"Rome"}'), Call(1, "{}", "call_2", "time")],
]


def test_a_stream_of_calls_is_its_golden_file_byte_for_byte() -> None:
    made = answer(chat=True)
    said = [made.begin(), *(made.add(0, Said(list(parts))) for parts in CALLS)]
    stream = b"".join([*said, made.end(0, Finish("tool_calls")), made.done(USAGE)])
    assert stream.decode() == (GOLDEN / "chat_stream_calls.txt").read_text()


def test_a_whole_answer_with_calls_is_its_golden_file_byte_for_byte() -> None:
    said = Said([part for parts in CALLS for part in parts if not isinstance(part, Text)])
    whole = answer(chat=True).whole([Answered(said, Finish("tool_calls"))], USAGE)
    assert whole.decode() + "\n" == (GOLDEN / "chat_calls_whole.txt").read_text()


@pytest.mark.parametrize("path", sorted(GOLDEN.iterdir()), ids=lambda path: path.stem)
def test_golden_files_are_valid_against_the_sdk_s_types(path: Path) -> None:
    kind: Any = Completion
    if path.stem.startswith("chat"):
        kind = ChatCompletion if path.stem.endswith("whole") else ChatCompletionChunk
    bodies = [line.removeprefix("data: ") for line in path.read_text().split("\n") if line.strip()]
    for body in bodies:
        if body != "[DONE]":
            kind.model_validate(_without_open_ends(json.loads(body)), strict=True)
    assert path.stem.endswith("whole") or bodies[-1] == "[DONE]"


def _without_open_ends(body: dict[str, Any]) -> dict[str, Any]:
    """The SDK types a completion's finish_reason for whole answers only; null is how a stream says "not yet"."""
    if body["object"] == "text_completion":
        for choice in body["choices"]:
            choice["finish_reason"] = choice["finish_reason"] or "stop"
    return body


@pytest.mark.parametrize("chat", [True, False], ids=["chat", "completion"])
def test_the_service_tier_is_told_when_it_was_asked(chat: bool) -> None:
    made = Answer(chat=chat, request_id="r1", model="demo", fingerprint="demo@3", created_s=1, tells_tier=True)
    assert json.loads(made.whole([], USAGE))["service_tier"] == "default"
    assert json.loads(made.add(0, text("a")).removeprefix(b"data: "))["service_tier"] == "default"
    assert "service_tier" not in json.loads(answer(chat).whole([], USAGE))


@given(st.text())
def test_any_text_comes_out_as_it_went_in(given: str) -> None:
    for chat in (True, False):
        event = answer(chat).add(0, text(given))
        assert event.count(b"\n\n") == 1
        choice = json.loads(event.removeprefix(b"data: "))["choices"][0]
        assert (choice["delta"]["content"] if chat else choice["text"]) == given


def test_every_error_has_all_four_keys_in_a_body_and_in_a_stream() -> None:
    for kind in _kinds(errors.ServingError):
        error = kind("why", allow="GET") if kind is errors.MethodNotAllowed else kind("why")
        body = json.loads(error_body(error))
        assert body == {"error": {"message": "why", "type": error.type, "param": None, "code": error.code}}
        assert error_event(error) == b"data: " + error_body(error) + b"\n\n"


def test_an_error_names_its_field() -> None:
    assert json.loads(error_body(errors.InvalidRequest("n: no", param="n")))["error"]["param"] == "n"


def _kinds(kind: Any) -> list[Any]:
    return [kind, *(found for below in kind.__subclasses__() for found in _kinds(below))]


def test_every_error_is_in_the_documentation_with_its_status_and_type() -> None:
    lines = (DOCS / "wire" / "errors.md").read_text().splitlines()
    for kind in _kinds(errors.ServingError):
        assert any(f"| {kind.status} |" in line and f"`{kind.code}`" in line and kind.type in line for line in lines)
