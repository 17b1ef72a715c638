"""Anthropic's answers byte for byte against golden files, and against the anthropic package's own types."""

import json
from pathlib import Path
from typing import Any

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from pydantic import TypeAdapter

from aruntime.base import errors
from aruntime.wire.answers import Usage
from aruntime.wire.anthropic_answers import MessageAnswer
from aruntime.wire.errors import error_body_anthropic
from aruntime.wire.said import Answered, Call, Finish, Part, Reasoning, Said, Text

GOLDEN = Path(__file__).parent / "golden_anthropic"
USAGE = Usage(prompt=7, completion=5, cached=4, reasoning=2)
TEXT: list[Part] = [Text('a "b"\n'), Text("é")]
CALLS: list[Part] = [
    Reasoning("hm"),
    Reasoning(", so"),
    Text("Look:"),
    Call(0, id="call_1", name="weather"),
    Call(0, '{"city": "Zü'),
    Call(0, 'rich"}'),
    Call(1, id="call_2", name="time"),
]
SAID = {
    "text": (TEXT, Finish("stop", "END")),
    "calls": (CALLS, Finish("tool_calls")),
    "nothing": ([], Finish("length")),
}


def answer(cut: bool = False) -> MessageAnswer:
    return MessageAnswer(request_id="r1", model="demo", prompt_tokens=7, cut=cut)


def events(stream: bytes) -> list[dict[str, Any]]:
    """The events' data, each named by its type."""
    data = []
    for event in stream.decode().removesuffix("\n\n").split("\n\n"):
        name, told = event.split("\n")
        data.append(json.loads(told.removeprefix("data: ")))
        assert name == f"event: {data[-1]['type']}"
    return data


@pytest.mark.parametrize("name", SAID)
def test_a_stream_is_its_golden_file_and_each_event_is_of_the_sdk_s_types(name: str) -> None:
    parts, finish = SAID[name]
    made = answer()
    stream = made.begin() + b"".join([made.add(0, Said([part])) for part in parts])
    stream += made.end(0, finish) + made.done(USAGE)
    assert stream.decode() == (GOLDEN / f"stream_{name}.txt").read_text()
    kinds: TypeAdapter[Any] = TypeAdapter(RawMessageStreamEvent)
    for event in events(stream):
        if event["type"] != "ping":
            kinds.validate_python(event, strict=True)


@pytest.mark.parametrize("name", SAID)
def test_a_whole_message_is_its_golden_file_and_of_the_sdk_s_type(name: str) -> None:
    parts, finish = SAID[name]
    whole = answer().whole([Answered(Said(list(parts)), finish)], USAGE)
    assert whole.decode() + "\n" == (GOLDEN / f"whole_{name}.txt").read_text()
    Message.model_validate(json.loads(whole), strict=True)


def test_a_context_that_is_full_is_told_from_a_limit_that_is_reached() -> None:
    ended = {
        cut: json.loads(answer(cut).whole([Answered(Said(TEXT), Finish("length"))], USAGE))["stop_reason"]
        for cut in (False, True)
    }
    assert ended == {False: "max_tokens", True: "model_context_window_exceeded"}


@pytest.mark.parametrize(
    ("said", "input"),
    [
        ('{"a": 123456789012345678901234567890, "b": "c', {"a": 123456789012345678901234567890, "b": "c"}),
        ('{"a": 123456789012345678901234567890}', {"a": 123456789012345678901234567890}),
        ('{"a": 1e999, "b', {}),
        ('{"a": "b', {"a": "b"}),
        ('{"a": 1, "b', {"a": 1}),
        ("", {}),
        ("[1]", {}),
        ("{nonsense", {}),
    ],
)
def test_a_call_that_was_cut_has_the_arguments_that_were_said(said: str, input: dict[str, Any]) -> None:
    answered = Answered(Said([Call(0, said, "c", "f")]), Finish("length"))
    assert json.loads(answer().whole([answered], USAGE))["content"][0]["input"] == input


def test_an_error_ends_a_stream_as_an_event() -> None:
    (told,) = events(answer().failed(errors.Overloaded("full")))
    error = {"type": "overloaded_error", "message": "full", "param": None, "code": "overloaded"}
    assert told == {"type": "error", "error": error, "request_id": "r1"}


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (errors.InvalidRequest, "invalid_request_error"),
        (errors.ContextLengthExceeded, "invalid_request_error"),
        (errors.InvalidApiKey, "authentication_error"),
        (errors.PermissionDenied, "permission_error"),
        (errors.ModelNotFound, "not_found_error"),
        (errors.RequestTimeout, "timeout_error"),
        (errors.RequestTooLarge, "request_too_large"),
        (errors.UnsupportedMediaType, "invalid_request_error"),
        (errors.RateLimitExceeded, "rate_limit_error"),
        (errors.ModelError, "api_error"),
        (errors.ModelNotReady, "overloaded_error"),
        (errors.Draining, "overloaded_error"),
        (errors.DeadlineExceeded, "timeout_error"),
    ],
)
def test_each_error_has_anthropic_s_type(error: type[errors.ServingError], kind: str) -> None:
    assert json.loads(error_body_anthropic(error("why"), "r1"))["error"]["type"] == kind
