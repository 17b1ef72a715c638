"""Messages, tools and choices in OpenAI's words: what they become, and which field a refusal names."""

import json
from typing import Any

import pytest
from openai.types.chat import ChatCompletionMessage

from aruntime.base.errors import InvalidRequest
from aruntime.wire.conversation import DEPTH_MAX, SCHEMA_BYTES_MAX, Conversation, Message, Tool, ToolCall, ToolChoice
from aruntime.wire.openai import parse_chat
from aruntime.wire.tokens import TokenizeChat, parse_tokenize

USER = {"role": "user", "content": "weather in Rome?"}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Rome"}'}}
CALLING = {"role": "assistant", "content": None, "tool_calls": [CALL]}
RESULT = {"role": "tool", "tool_call_id": "call_1", "content": "22"}
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "weather", "description": "Now.", "parameters": SCHEMA}}
TIME = {"type": "function", "function": {"name": "time", "strict": True}}
NAMED = {"type": "function", "function": {"name": "time"}}


def asked(**changes: object) -> dict[str, object]:
    return {"model": "demo", "messages": [USER], "tools": [WEATHER, TIME], **changes}


def conversation(**changes: object) -> Conversation:
    return parse_chat(json.dumps(asked(**changes)).encode()).conversation


def calling(**changes: object) -> list[dict[str, Any]]:
    """A conversation whose one call has `changes` in its function."""
    call = {**CALL, "function": {**CALL["function"], **changes}}  # type: ignore[dict-item]
    return [USER, {**CALLING, "tool_calls": [call]}]


def function(**changes: object) -> list[dict[str, Any]]:
    """Two tools, the second with `changes` in its function."""
    return [WEATHER, {"type": "function", "function": {"name": "time", **changes}}]


def nested(levels: int) -> dict[str, Any]:
    """That many objects within each other."""
    value: dict[str, Any] = {}
    for _ in range(levels - 1):
        value = {"a": value}
    return value


def test_calls_and_their_results_are_messages() -> None:
    messages = conversation(messages=[USER, CALLING, RESULT]).messages
    assert messages == [
        Message("user", "weather in Rome?"),
        Message("assistant", "", calls=(ToolCall("call_1", "weather", '{"city": "Rome"}'),)),
        Message("tool", "22", call_id="call_1"),
    ]


def test_a_template_sees_arguments_as_an_object_and_a_tool_as_transformers_shows_it() -> None:
    ours = conversation(messages=[USER, {**CALLING, "reasoning": "hm"}, RESULT])
    call = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
    assert ours.messages_for_template[1:] == [
        {"role": "assistant", "content": "", "reasoning_content": "hm", "tool_calls": [call]},
        {"role": "tool", "content": "22", "tool_call_id": "call_1", "name": "weather"},
    ]
    assert [tool.for_template() for tool in ours.tools] == [
        WEATHER,
        {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "properties": {}}}},
    ]


def test_an_answer_with_calls_can_be_sent_back_as_the_sdk_holds_it() -> None:
    message = ChatCompletionMessage.model_validate({"refusal": None, **CALLING}).model_dump()
    assert conversation(messages=[USER, message, RESULT]).messages[1].calls[0].name == "weather"


def test_a_call_without_arguments_has_none() -> None:
    call = conversation(messages=calling(arguments="")).messages[1].calls[0]
    assert call.for_template()["function"] == {"name": "weather", "arguments": {}}


def test_a_tool_is_its_function() -> None:
    assert conversation().tools == [Tool("weather", "Now.", SCHEMA), Tool("time", strict=True)]


@pytest.mark.parametrize(
    ("given", "choice", "callable_names"),
    [
        (None, ToolChoice("auto"), ["weather", "time"]),
        ("auto", ToolChoice("auto"), ["weather", "time"]),
        ("none", ToolChoice("none"), []),
        ("required", ToolChoice("required"), ["weather", "time"]),
        (NAMED, ToolChoice("required", ("time",)), ["time"]),
        (
            {"type": "allowed_tools", "allowed_tools": {"mode": "auto", "tools": [NAMED, NAMED]}},
            ToolChoice("auto", ("time",)),
            ["time"],
        ),
    ],
)
def test_a_choice_says_which_tools_may_be_called(given: object, choice: ToolChoice, callable_names: list[str]) -> None:
    ours = conversation(tool_choice=given)
    assert ours.choice == choice
    assert [tool.name for tool in ours.callable_tools] == callable_names


def test_one_call_at_a_time_and_a_template_s_switches() -> None:
    ours = conversation(parallel_tool_calls=False, chat_template_kwargs={"enable_thinking": False})
    assert (ours.parallel_calls, ours.options) == (False, {"enable_thinking": False})
    assert (conversation().parallel_calls, conversation().options) == (True, None)


FUNCTIONS = [{"name": "weather"}, {"name": "time"}]
ASKED_BEFORE = [
    {"role": "user", "content": "hi"},
    {"role": "assistant", "content": None, "function_call": {"name": "time", "arguments": "{}"}},
    {"role": "function", "name": "time", "content": "noon"},
]


@pytest.mark.parametrize(
    ("given", "choice"),
    [
        (None, ToolChoice()),
        ("auto", ToolChoice()),
        ("none", ToolChoice("none")),
        ({"name": "time"}, ToolChoice("required", ("time",))),
    ],
)
def test_functions_are_tools_of_which_one_is_called(given: object, choice: ToolChoice) -> None:
    ours = parse_chat(
        json.dumps({"model": "m", "messages": ASKED_BEFORE, "functions": FUNCTIONS, "function_call": given}).encode()
    ).conversation
    assert (ours.choice, ours.parallel_calls) == (choice, False)
    assert [tool.name for tool in ours.tools] == ["weather", "time"]
    _, asked, result = ours.messages
    assert (asked.calls[0].name, result.role, result.content) == ("time", "tool", "noon")
    assert asked.calls[0].id == result.call_id


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"functions": [*FUNCTIONS, {"name": "time"}]}, "functions.2.name"),
        ({"functions": FUNCTIONS, "function_call": {"name": "other"}}, "function_call.name"),
        ({"function_call": {"name": "time"}}, "function_call"),
        ({"functions": FUNCTIONS, "tool_choice": "none"}, "functions"),
        ({"functions": FUNCTIONS, "function_call": "required"}, "function_call"),
        ({"tools": [TIME], "functions": FUNCTIONS}, "functions"),
        ({"messages": ASKED_BEFORE[::2]}, "messages.1.name"),
        ({"messages": [{"role": "function", "content": "noon"}]}, "messages.0.name"),
        ({"messages": [{**ASKED_BEFORE[1], "role": "user"}]}, "messages.0.function_call"),
    ],
)
def test_what_is_wrong_with_functions_is_named(changes: dict[str, object], param: str) -> None:
    body = {"model": "m", "messages": ASKED_BEFORE[:1], **changes}
    with pytest.raises(InvalidRequest) as refused:
        parse_chat(json.dumps(body).encode())
    assert refused.value.param == param


def test_tokenize_takes_tools_and_switches_too() -> None:
    body = parse_tokenize(json.dumps(asked(chat_template_kwargs={"a": 1})).encode())
    assert isinstance(body, TokenizeChat)
    assert body.conversation.tools == conversation().tools
    assert body.conversation.options == {"a": 1}


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        # messages: what each role has
        ({"messages": [{"role": "tool", "content": "22"}]}, "messages.0.tool_call_id"),
        ({"messages": [RESULT]}, "messages.0.tool_call_id"),
        ({"messages": [USER, RESULT, CALLING]}, "messages.1.tool_call_id"),
        ({"messages": [{**USER, "tool_call_id": "call_1"}]}, "messages.0.tool_call_id"),
        ({"messages": [{**USER, "tool_calls": [CALL]}]}, "messages.0.tool_calls"),
        ({"messages": [{**USER, "reasoning_content": "hm"}]}, "messages.0.reasoning_content"),
        ({"messages": [USER, {"role": "assistant"}]}, "messages.1.content"),
        ({"messages": [USER, {**CALLING, "tool_calls": []}]}, "messages.1.content"),
        # calls
        ({"messages": calling(arguments="{")}, "messages.1.tool_calls.0.function.arguments"),
        ({"messages": calling(arguments="[]")}, "messages.1.tool_calls.0.function.arguments"),
        ({"messages": calling(arguments={})}, "messages.1.tool_calls.0.function.arguments"),
        ({"messages": calling(arguments="{" * 2_000)}, "messages.1.tool_calls.0.function.arguments"),
        (
            {"messages": calling(arguments=json.dumps(nested(DEPTH_MAX + 1)))},
            "messages.1.tool_calls.0.function.arguments",
        ),
        ({"messages": calling(name="a b")}, "messages.1.tool_calls.0.function.name"),
        ({"messages": [USER, {**CALLING, "tool_calls": [{**CALL, "type": "custom"}]}]}, "messages.1.tool_calls.0.type"),
        ({"messages": [USER, {**CALLING, "tool_calls": [{**CALL, "id": ""}]}]}, "messages.1.tool_calls.0.id"),
        ({"messages": [USER, {**CALLING, "tool_calls": [CALL] * 129}]}, "messages.1.tool_calls"),
        ({"messages": [USER, {**CALLING, "function_call": {}}]}, "messages.1.function_call.name"),
        # tools
        ({"tools": [WEATHER] * 129}, "tools"),
        ({"tools": [{"type": "custom", "custom": {"name": "a"}}]}, "tools.0.type"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"tools": function(name="")}, "tools.1.function.name"),
        ({"tools": function(name="a.b")}, "tools.1.function.name"),
        ({"tools": function(name="a" * 65)}, "tools.1.function.name"),
        ({"tools": function(name="weather")}, "tools.1.function.name"),
        ({"tools": function(strict=1)}, "tools.1.function.strict"),
        ({"tools": function(parameters=[])}, "tools.1.function.parameters"),
        ({"tools": function(parameters=nested(DEPTH_MAX + 1))}, "tools.1.function.parameters"),
        ({"tools": function(parameters={"a": "b" * SCHEMA_BYTES_MAX})}, "tools.1.function.parameters"),
        ({"tools": function(returns={})}, "tools.1.function.returns"),
        # the choice
        ({"tool_choice": "any"}, "tool_choice"),
        ({"tool_choice": "required", "tools": []}, "tool_choice"),
        ({"tool_choice": NAMED, "tools": None}, "tool_choice"),
        ({"tool_choice": {"type": "function", "function": {"name": "other"}}}, "tool_choice.function.name"),
        ({"tool_choice": {"type": "custom", "custom": {"name": "a"}}}, "tool_choice.custom"),
        (
            {"tool_choice": {"type": "allowed_tools", "allowed_tools": {"mode": "none", "tools": [NAMED]}}},
            "tool_choice.allowed_tools.mode",
        ),
        ({"parallel_tool_calls": "no"}, "parallel_tool_calls"),
        ({"functions": [{"name": "a"}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
        # a template's switches
        ({"chat_template_kwargs": {"a": []}}, "chat_template_kwargs.a"),
        ({"chat_template_kwargs": {"a": "b" * 1025}}, "chat_template_kwargs.a"),
        ({"chat_template_kwargs": {"_a": 1}}, "chat_template_kwargs._a"),
        ({"chat_template_kwargs": {f"a{i}": i for i in range(17)}}, "chat_template_kwargs"),
    ],
)
def test_the_first_wrong_field_of_a_conversation_is_named(changes: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        conversation(**changes)
    assert caught.value.param == param
    assert caught.value.message.startswith(f"{param}: ")


def test_values_as_deep_as_may_be_are_taken() -> None:
    deep = nested(DEPTH_MAX)
    assert conversation(tools=function(parameters=deep)).tools[1].parameters == deep
    assert conversation(messages=calling(arguments=json.dumps(deep)))
