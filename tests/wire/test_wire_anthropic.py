"""Bodies of /v1/messages: what conversation each becomes, and which field a refusal names."""

import json
import time
from typing import Any

import pytest
from anthropic import types

from aruntime.base.errors import InvalidRequest
from aruntime.wire.anthropic import CountBody, MessagesBody, parse_count, parse_messages
from aruntime.wire.conversation import Message, ToolCall, ToolChoice
from aruntime.wire.grammars import json_grammar
from aruntime.wire.reference import rows

USER = {"role": "user", "content": "hi"}
TOOL = {"name": "f", "input_schema": {"type": "object"}}
USE = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": "é"}}
RESULT = {"type": "tool_result", "tool_use_id": "t1"}
CACHED = {"cache_control": {"type": "ephemeral", "ttl": "1h"}}

HEADERS = {"user_profile_id", "workspace_id"}
"""Parameters that the anthropic package sends as headers."""


def messages(**body: Any) -> MessagesBody:
    return parse_messages(json.dumps({"model": "demo", "max_tokens": 2048, "messages": [USER], **body}).encode())


def text(said: str, **more: Any) -> dict[str, Any]:
    return {"type": "text", "text": said, **more}


def turn(role: str, *content: Any) -> dict[str, Any]:
    return {"role": role, "content": list(content)}


def test_a_conversation_with_a_call_becomes_the_messages_that_templates_know() -> None:
    thought = {"type": "thinking", "thinking": "hm", "signature": "s"}
    body = messages(
        system=[text("be "), text("short", **CACHED)],
        messages=[
            USER,
            turn("assistant", thought, text("so:", citations=None), {**USE, "caller": {"type": "direct"}}),
            turn("user", {**RESULT, "content": [text("22 "), text("°C")], "is_error": False}, text("and?")),
        ],
        tools=[TOOL],
    )
    assert list(body.conversation.messages) == [
        Message("system", "be short"),
        Message("user", "hi"),
        Message("assistant", "so:", reasoning="hm", calls=(ToolCall("t1", "f", '{"a":"é"}'),)),
        Message("tool", "22 °C", call_id="t1"),
        Message("user", "and?"),
    ]


def test_turns_of_one_role_in_a_row_are_one() -> None:
    body = messages(messages=[USER, turn("user", text("a"), text("b")), turn("assistant"), USER])
    said = [(message.role, message.content) for message in body.conversation.messages]
    assert said == [("user", "hi\nab"), ("assistant", ""), ("user", "hi")]


def test_as_many_turns_as_a_body_holds_are_one_in_no_more_time_than_it_takes_to_read_them() -> None:
    body = messages(messages=[{"role": "user", "content": "x" * 1000}] * 4096)
    begun_s = time.process_time()
    (message,) = body.conversation.messages
    assert time.process_time() - begun_s < 0.5  # pair by pair it would be seconds
    assert len(message.content) == 4096 * 1001 - 1


@pytest.mark.parametrize(
    ("choice", "meant", "parallel"),
    [
        (None, ToolChoice(), True),
        ({"type": "auto", "disable_parallel_tool_use": True}, ToolChoice(), False),
        ({"type": "any"}, ToolChoice("required"), True),
        ({"type": "none"}, ToolChoice("none"), True),
        ({"type": "tool", "name": "f", "disable_parallel_tool_use": True}, ToolChoice("required", ("f",)), False),
    ],
)
def test_a_choice_of_tools_is_the_one_of_all_protocols(
    choice: dict[str, Any] | None, meant: ToolChoice, parallel: bool
) -> None:
    conversation = messages(tools=[TOOL], tool_choice=choice).conversation
    assert (conversation.choice, conversation.parallel_calls) == (meant, parallel)


def test_thinking_is_a_switch_of_the_template() -> None:
    on = messages(thinking={"type": "enabled", "budget_tokens": 1024}).conversation
    off = messages(thinking={"type": "disabled"}).conversation
    assert (on.options, off.options) == ({"enable_thinking": True}, {"enable_thinking": False})
    assert messages(thinking={"type": "adaptive"}).conversation.options is None


def test_what_changes_nothing_is_taken() -> None:
    body = messages(
        **CACHED,
        metadata={"user_id": "u"},
        service_tier="auto",
        output_config={"effort": "high"},
        tools=[{**TOOL, "type": "custom", "eager_input_streaming": True, **CACHED}],
    )
    assert body.sampling.model_dump(exclude_none=True) == {}


def test_a_schema_of_the_answer_is_its_grammar() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    constraint = messages(output_config={"format": {"type": "json_schema", "schema": schema}}).constraint
    assert constraint is not None
    assert (constraint.grammar, constraint.field) == (json_grammar(schema), "output_config.format.schema")
    assert messages(output_config={}).constraint is None


def test_sampling_is_that_of_all_protocols() -> None:
    sampling = messages(temperature=1, top_p=0.5, top_k=3, stop_sequences=["a"]).sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.stops) == (1, 0.5, 3, ("a",))


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"max_tokens": None}, "max_tokens"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": True}, "max_tokens"),
        ({"temperature": 1.5}, "temperature"),
        ({"top_k": -1}, "top_k"),
        ({"stop": ["a"]}, "stop"),
        ({"stop_sequences": [""]}, "stop_sequences.0"),
        ({"messages": []}, "messages"),
        ({"messages": [3]}, "messages.0"),
        ({"messages": [{"content": "a"}]}, "messages.0.role"),
        ({"messages": [{"role": "tool", "content": "a"}]}, "messages.0.role"),
        ({"messages": [USER, {"role": "assistant", "content": "it is"}]}, "messages.1.role"),
        ({"messages": [turn("user", {"type": "image", "source": {}})]}, "messages.0.content.0.type"),
        ({"messages": [turn("user", {"type": "document", "source": {}})]}, "messages.0.content.0.type"),
        ({"messages": [turn("user", {"text": "a"})]}, "messages.0.content.0.type"),
        ({"messages": [turn("user", text("a"), text("b", x=1))]}, "messages.0.content.1.x"),
        (
            {"messages": [turn("user", text("a", cache_control={"type": "x"}))]},
            "messages.0.content.0.cache_control.type",
        ),
        ({"messages": [turn("user", USE)]}, "messages.0.content.0.type"),
        ({"messages": [turn("assistant", {**USE, "input": "{}"}), USER]}, "messages.0.content.0.input"),
        ({"messages": [turn("assistant", {**USE, "id": ""}), USER]}, "messages.0.content.0.id"),
        ({"messages": [turn("user", RESULT)]}, "messages.0.content.0.tool_use_id"),
        ({"messages": [turn("assistant", {"type": "redacted_thinking", "data": "x"})]}, "messages.0.content.0.type"),
        ({"system": [{"type": "image"}]}, "system.0.type"),
        ({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, "tools.0.type"),
        ({"tools": [TOOL, TOOL]}, "tools.1.name"),
        ({"tools": [{**TOOL, "name": "a b"}]}, "tools.0.name"),
        ({"tools": [{"name": "f"}]}, "tools.0.input_schema"),
        ({"tools": [{**TOOL, "defer_loading": True}]}, "tools.0.defer_loading"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"),
        ({"tool_choice": {"type": "some"}}, "tool_choice.type"),
        ({"tool_choice": {"type": ["any"]}}, "tool_choice.type"),
        ({"tool_choice": "auto"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "tool", "name": "g"}}, "tool_choice.name"),
        ({"thinking": {"type": "enabled", "budget_tokens": 100}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "enabled", "budget_tokens": 2048}}, "thinking.budget_tokens"),
        ({"thinking": {"type": "between_tools"}}, "thinking.type"),
        ({"output_config": {"effort": "low"}}, "output_config.effort"),
        ({"output_config": {"format": {"type": "json_object"}}}, "output_config.format.type"),
        ({"output_config": {"format": {"type": "json_schema"}}}, "output_config.format.schema"),
        ({"output_config": {"format": {"type": "json_schema", "schema": 3}}}, "output_config.format.schema"),
        ({"container": "c"}, "container"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"logprobs": True}, "logprobs"),
    ],
)
def test_the_wrong_field_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        messages(**body)
    assert refused.value.param == param


def test_a_call_s_input_has_a_bounded_depth() -> None:
    deep: dict[str, Any] = {}
    for _ in range(100):
        deep = {"a": deep}
    with pytest.raises(InvalidRequest) as refused:
        messages(messages=[turn("assistant", {**USE, "input": deep}), USER])
    assert refused.value.param == "messages.0.content.0.input"


def test_tokens_are_counted_of_what_a_model_goes_on_from_and_of_nothing_else() -> None:
    body = {"model": "demo", "messages": [USER], "tools": [TOOL], "tool_choice": {"type": "none"}}
    assert isinstance(parse_count(json.dumps(body).encode()), CountBody)
    with pytest.raises(InvalidRequest) as refused:
        parse_count(json.dumps({**body, "max_tokens": 1}).encode())
    assert refused.value.param == "max_tokens"


@pytest.mark.parametrize(
    ("within", "documented"),
    [
        ("", types.message_create_params.MessageCreateParamsNonStreaming),
        ("", types.message_create_params.MessageCreateParamsStreaming),
        ("tools[].", types.ToolParam),
        ("output_config.", types.OutputConfigParam),
        ("messages[].content[].", types.TextBlockParam),
        ("messages[].content[].", types.ToolUseBlockParam),
        ("messages[].content[].", types.ToolResultBlockParam),
        ("messages[].content[].", types.ThinkingBlockParam),
    ],
)
def test_no_parameter_of_the_anthropic_package_is_missing(within: str, documented: Any) -> None:
    told = {row.field for row in rows(MessagesBody)}
    names = {name for one in documented.__mro__ for name in getattr(one, "__annotations__", {})}
    assert {within + name for name in names - HEADERS} <= told
