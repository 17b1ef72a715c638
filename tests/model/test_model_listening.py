"""What is heard of an answer: golden texts of each family, and that the cuts between pieces make no difference."""

import itertools
import json
import re
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from aruntime.model.speech.extent import Extent
from aruntime.model.speech.formats import HERMES, LLAMA_3, MISTRAL, THOUGHTS, CallFormat
from aruntime.model.speech.listening import Listening
from aruntime.wire.conversation import CALLS_MAX
from aruntime.wire.said import Part, Said

NAMES = ("weather", "time")
FORMATS = {"hermes": HERMES, "llama 3": LLAMA_3, "mistral": MISTRAL}
ROME = '{"city": "Rome"}'


def hear(calls: CallFormat, pieces: Sequence[str], **options: Any) -> Said:
    listening = Listening(calls, options.pop("names", NAMES), **options)
    parts: list[Part] = [part for piece in pieces for part in listening.push(piece)]
    return Said([*parts, *listening.finish()])


def heard(said: Said) -> tuple[str, str, list[tuple[str, str]]]:
    """Thought, text and calls."""
    return said.reasoning, said.text, [(call.name, call.arguments) for call in said.calls]


@pytest.mark.parametrize(
    ("calls", "answer", "text", "called"),
    [
        # hermes, qwen
        ("hermes", "Just text, a < b, <tool", "Just text, a < b, <tool", []),
        ("hermes", f'<tool_call>\n{{"name": "weather", "arguments": {ROME}}}\n</tool_call>', "", [("weather", ROME)]),
        (
            "hermes",
            f'Let me see.\n\n<tool_call>\n{{"name": "weather", "arguments": {ROME}}}\n</tool_call>\n<tool_call>\n'
            '{"name": "time", "arguments": {}}\n</tool_call>\n',
            "Let me see.",
            [("weather", ROME), ("time", "{}")],
        ),
        ("hermes", '<tool_call>{"arguments": {"a": 1}, "name": "time"}</tool_call>', "", [("time", '{"a":1}')]),
        ("hermes", '<tool_call>{"name": "time"}</tool_call>', "", [("time", "{}")]),
        (
            "hermes",
            '<tool_call>{"name": "weather", "arguments": {"city": "}\\"</tool_call>{"}, "id": 1}</tool_call> Done.',
            "Done.",
            [("weather", '{"city": "}\\"</tool_call>{"}')],
        ),
        ("hermes", f'<tool_call>[{{"name": "weather", "arguments": {ROME}}}, {{"name": "time"}}]</tool_call>', "",
         [("weather", ROME), ("time", "{}")]),
        # llama 3
        ("llama 3", f'{{"name": "weather", "parameters": {ROME}}}', "", [("weather", ROME)]),
        ("llama 3", f'<|python_tag|>{{"name": "weather", "parameters": {ROME}}}; {{"name": "time"}}', "",
         [("weather", ROME), ("time", "{}")]),
        ("llama 3", '{"type": "function", "name": "time", "parameters": {"a": 1}}', "", [("time", '{"a":1}')]),
        ("llama 3", '{"answer": 42}', '{"answer": 42}', []),
        ("llama 3", 'It is {"name": "time", "parameters": {}}', 'It is {"name": "time", "parameters": {}}', []),
        ("llama 3", "<|python_tag|>print(1)", "<|python_tag|>print(1)", []),
        # mistral, before and since version 11
        ("mistral", '[TOOL_CALLS] [{"name": "time", "arguments": {}, "id": "abcdefghi"}]', "", [("time", "{}")]),
        (
            "mistral",
            f'[TOOL_CALLS] [{{"name": "weather", "arguments": {ROME}}}, {{"name": "time", "arguments": {{}}}}]',
            "",
            [("weather", ROME), ("time", "{}")],
        ),
        ("mistral", f"Well.[TOOL_CALLS]weather[ARGS]{ROME}[TOOL_CALLS]time[ARGS]{{}}", "Well.",
         [("weather", ROME), ("time", "{}")]),
        ("mistral", f"[TOOL_CALLS]weather[CALL_ID]abcdefghi[ARGS]{ROME}", "", [("weather", ROME)]),
        ("mistral", "[TOOL_CALLS]weather of Rome", "[TOOL_CALLS]weather of Rome", []),
    ],
)  # fmt: skip
def test_each_family_s_answers(calls: str, answer: str, text: str, called: list[tuple[str, str]]) -> None:
    for pieces in ([answer], list(answer)):
        assert heard(hear(FORMATS[calls], pieces)) == ("", text, called)


@pytest.mark.parametrize(
    "answer",
    [
        "<tool_call>",
        "<tool_call>\nno object",
        '<tool_call>{"name": "weather"',
        '<tool_call>{"name": "other", "arguments": {}}</tool_call>',
        '<tool_call>{"name": "weather", "arguments": "Rome"}</tool_call>',
        '<tool_call>{"name": 1}</tool_call> and so on',
        '<tool_call>{"name": weather}</tool_call>',
        "say <tool_call> [1, 2]",
    ],
)
def test_what_is_no_call_is_text(answer: str) -> None:
    for pieces in ([answer], list(answer)):
        assert heard(hear(HERMES, pieces)) == ("", answer, [])


def test_a_call_after_what_is_none_is_heard() -> None:
    said = hear(HERMES, ['<tool_call>oops <tool_call>{"name": "time"}</tool_call>'])
    assert heard(said) == ("", "<tool_call>oops", [("time", "{}")])


def test_arguments_come_as_they_are_said() -> None:
    listening = Listening(HERMES, NAMES)
    assert listening.push('<tool_call>{"name": "weather", "arguments": ') == []
    first = listening.push('{"ci')
    assert [(part.name, part.arguments) for part in first] == [("weather", ""), ("", '{"ci')]  # type: ignore[union-attr]
    assert [part.arguments for part in listening.push('ty": "Ro')] == ['ty": "Ro']  # type: ignore[union-attr]
    assert [part.arguments for part in listening.push('me"}}</tool_call>')] == ['me"}']  # type: ignore[union-attr]


def test_an_answer_cut_in_a_call_has_what_came_of_it() -> None:
    assert heard(hear(HERMES, ['<tool_call>{"name": "weather", "arguments": {"city": "Ro'])) == (
        "", "", [("weather", '{"city": "Ro')]
    )  # fmt: skip


def test_ids_differ_and_are_such_as_the_family_s_templates_take() -> None:
    answer = '[TOOL_CALLS][{"name": "time"}, {"name": "time"}]'
    ids = [call.id for call in hear(MISTRAL, [answer]).calls]
    assert len(set(ids)) == 2
    assert all(re.fullmatch(r"[a-zA-Z0-9]{9}", one) for one in ids)
    assert re.fullmatch(r"call_[0-9a-f]{24}", hear(HERMES, ['<tool_call>{"name": "time"}']).calls[0].id)


def test_one_call_ends_the_answer_when_there_may_be_one() -> None:
    listening = Listening(HERMES, NAMES, one=True)
    parts = listening.push('<tool_call>{"name": "time", "arguments": {}}</tool_call><tool_call>{"name": "time"}')
    assert len(Said(list(parts)).calls) == 1
    assert listening.over
    assert (listening.push("more"), listening.finish()) == ([], [])


def test_calls_of_a_constrained_answer_need_no_mark() -> None:
    assert heard(hear(MISTRAL, ['[{"name": "time", "arguments": {}}]'], bare=True))[2] == [("time", "{}")]


def test_no_more_calls_than_a_message_may_have() -> None:
    said = hear(HERMES, ['<tool_call>{"name": "time"}</tool_call>' * (CALLS_MAX + 1)])
    assert len(said.calls) == CALLS_MAX
    assert said.text == '<tool_call>{"name": "time"}</tool_call>'


def test_without_tools_every_mark_is_text() -> None:
    answer = '<tool_call>{"name": "time"}</tool_call>'
    assert heard(hear(HERMES, [answer], names=())) == ("", answer, [])


@pytest.mark.parametrize(
    ("opened", "answer", "expected"),
    [
        (False, "<think>\nHm. a < b\n</think>\n\nYes.", ("Hm. a < b", "Yes.", [])),
        (False, "\n<think>Hm.", ("Hm.", "", [])),
        (False, "<think>\n\n</think>\n\nYes.", ("", "Yes.", [])),
        (False, "Yes. <think>Hm.</think>", ("", "Yes. <think>Hm.</think>", [])),
        (False, "<thinking>", ("", "<thinking>", [])),
        (True, "Hm.\n</think>\n\nYes.", ("Hm.", "Yes.", [])),
        (True, "<think>Hm.</think>Yes.", ("Hm.", "Yes.", [])),
        (True, "Hm, </thin", ("Hm, </thin", "", [])),
        (False, '<think>I call.</think>\n<tool_call>{"name": "time"}</tool_call>', ("I call.", "", [("time", "{}")])),
        (False, '<think><tool_call>{"name": "time"}</tool_call></think>No.',
         ('<tool_call>{"name": "time"}</tool_call>', "No.", [])),
    ],
)  # fmt: skip
def test_thoughts_come_before_the_answer(opened: bool, answer: str, expected: object) -> None:
    for pieces in ([answer], list(answer)):
        assert heard(hear(HERMES, pieces, thoughts=THOUGHTS[0], opened=opened)) == expected


FRAGMENTS = [
    "<tool_call>", "</tool_call>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<|python_tag|>", "<think>", "</think>",
    '{"name": "weather", "arguments": ', '{"name": "time", "parameters": {}}', '{"name": "no"', ROME, "weather", "{",
    "}", "[", "]", '"', "\\", ",", ";", " ", "\n", "x", "{}", '{"a": [1, {"b": "]"}]}', "</tool", "abcdefghi",
]  # fmt: skip


@settings(max_examples=500, deadline=None)
@given(
    calls=st.sampled_from(sorted(FORMATS)),
    text=st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join),
    cuts=st.lists(st.integers(0, 200), max_size=8),
    options=st.fixed_dictionaries(
        {
            "thoughts": st.sampled_from([None, THOUGHTS[0]]),
            "opened": st.booleans(),
            "bare": st.booleans(),
            "one": st.booleans(),
        }
    ),
)
def test_how_the_text_is_cut_makes_no_difference(
    calls: str, text: str, cuts: list[int], options: dict[str, Any]
) -> None:
    places = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in itertools.pairwise(places)]
    whole = heard(hear(FORMATS[calls], [text], **options))
    assert heard(hear(FORMATS[calls], pieces, **options)) == whole
    assert heard(hear(FORMATS[calls], list(text), **options)) == whole


@settings(max_examples=200, deadline=None)
@given(text=st.text())
def test_plain_text_stays_as_it_is(text: str) -> None:
    if "<tool_call>" not in text:
        assert heard(hear(HERMES, list(text))) == ("", text, [])


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=200, deadline=None)
@given(value=st.dictionaries(st.text(max_size=5), JSON, max_size=4), cut=st.integers(0, 300))
def test_an_object_s_end_is_found_wherever_it_is_cut(value: dict[str, Any], cut: int) -> None:
    text = json.dumps(value)
    extent, cut = Extent(), min(cut, len(text) - 1)
    assert extent.end(text[:cut]) == -1
    assert extent.end(text[cut:] + '}"') == len(text) - cut
