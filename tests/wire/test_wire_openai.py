"""Bodies of completion requests: what is read, what is refused, which field a refusal names, what a refusal costs."""

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from openai.types.chat import ChatCompletionMessage, completion_create_params
from openai.types.completion_create_params import CompletionCreateParamsBase

from aruntime.base.errors import InvalidRequest
from aruntime.wire.body import BRACKETS_MAX
from aruntime.wire.openai import ChatBody, StreamOptions, parse_chat
from aruntime.wire.openai_completions import CompletionBody, parse_completion

HELLO = {"model": "demo", "messages": [{"role": "user", "content": "hello"}]}


def chat(**changes: object) -> ChatBody:
    return parse_chat(json.dumps({**HELLO, **changes}).encode())


def completion(**changes: object) -> CompletionBody:
    return parse_completion(json.dumps({"model": "demo", "prompt": "hello", **changes}).encode())


def refused(parse: Any, **changes: object) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        parse(**changes)
    return caught.value


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("ab", ["ab"]),
        ([1, 2], [[1, 2]]),
        (["ab", "c"], ["ab", "c"]),
        ([[1, 2], [3]], [[1, 2], [3]]),
        (["ab", [1]], ["ab", [1]]),
    ],
)
def test_a_prompt_is_a_text_token_ids_or_several_of_both(prompt: object, prompts: list[object]) -> None:
    assert completion(prompt=prompt).prompts == prompts


def test_content_is_a_text_or_text_parts_joined() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    body = chat(messages=[{"role": "developer", "content": parts}, {"role": "user", "content": "c", "name": "ann"}])
    assert [message.for_template() for message in body.conversation.messages] == [
        {"role": "system", "content": "ab"},
        {"role": "user", "content": "c", "name": "ann"},
    ]


def test_a_message_of_an_answer_can_be_sent_back_as_the_sdk_holds_it() -> None:
    message = ChatCompletionMessage(role="assistant", content="hi", refusal=None).model_dump()
    assert chat(messages=[*HELLO["messages"], message]).messages[1].content == "hi"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        # numbers: a boolean is no integer, a text no number, 64 bits, ranges
        ({"n": True}, "n"),
        ({"n": 1.0}, "n"),
        ({"n": 0}, "n"),
        ({"n": 17}, "n"),
        ({"seed": 2**63}, "seed"),
        ({"seed": -(2**63) - 1}, "seed"),
        ({"seed": 2**200}, "seed"),
        ({"temperature": "1"}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": 2.01}, "temperature"),
        ({"top_p": 0}, "top_p"),
        ({"top_p": 1e-320}, "top_p"),
        ({"top_k": -2}, "top_k"),
        ({"min_p": 1.1}, "min_p"),
        ({"presence_penalty": -2.1}, "presence_penalty"),
        ({"repetition_penalty": 0}, "repetition_penalty"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 4, "max_completion_tokens": 5}, "max_completion_tokens"),
        ({"stream": 1}, "stream"),
        ({"ignore_eos": "yes"}, "ignore_eos"),
        ({"top_logprobs": 1}, "top_logprobs"),
        ({"logprobs": True, "top_logprobs": 21}, "top_logprobs"),
        ({"logprobs": 1}, "logprobs"),
        # lists and objects: the item is named
        ({"stop": ["a", ""]}, "stop.1"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": {"a": 1}}, "stop"),
        ({"stop_token_ids": [1, -1]}, "stop_token_ids.1"),
        ({"stop_token_ids": [1] * 17}, "stop_token_ids"),
        ({"metadata": {"k": 1}}, "metadata.k"),
        ({"metadata": {str(i): "" for i in range(17)}}, "metadata"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage"),
        ({"stream": True, "stream_options": {"include_obfuscation": True}}, "stream_options.include_obfuscation"),
        ({"stream": True, "stream_options": {"zz": 1}}, "stream_options.zz"),
        ({"stream": True, "stream_options": []}, "stream_options"),
        # messages
        ({"messages": []}, "messages"),
        ({"messages": {}}, "messages"),
        ({"messages": ["hi"]}, "messages.0"),
        ({"messages": [{"role": "user"}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": None}]}, "messages.0.content"),
        ({"messages": [{"role": "function", "content": ""}]}, "messages.0.name"),
        ({"messages": [{"role": "user", "content": "", "weight": 1}]}, "messages.0.weight"),
        ({"messages": [{"role": "assistant", "content": "", "tool_calls": [{}]}]}, "messages.0.tool_calls.0.id"),
        ({"messages": [{"role": "user", "content": []}]}, "messages.0.content"),
        ({"messages": [{"role": "user", "content": ["hi"]}]}, "messages.0.content.0"),
        ({"messages": [{"role": "user", "content": [{"type": "text"}]}]}, "messages.0.content.0.text"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://a/"}}]}]},
            "messages.0.content.0.type",
        ),
        # the first in the body
        ({"top_p": 5, "temperature": 5}, "top_p"),
        ({"zz": 1}, "zz"),
    ],
)
def test_the_first_wrong_field_of_a_chat_is_named(changes: dict[str, object], param: str) -> None:
    error = refused(chat, **changes)
    assert error.param == param
    assert error.message.startswith(f"{param}: ")


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": [[]]}, "prompt.0"),
        ({"prompt": [1, True]}, "prompt.1"),
        ({"prompt": [1, "a"]}, "prompt.1"),
        ({"prompt": ["a", 1]}, "prompt.1"),
        ({"prompt": [[1, 2], [3, -1]]}, "prompt.1.1"),
        ({"prompt": [2**31]}, "prompt.0"),
        ({"prompt": ["a"] * 65}, "prompt"),
        ({"prompt": ["a"] * 9, "n": 15}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"echo": 1}, "echo"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": -1, "echo": True}, "max_tokens"),
        ({"logprobs": 21}, "logprobs"),
        ({"logprobs": True}, "logprobs"),
        ({"logit_bias": {"x": 1}}, "logit_bias.x"),
        ({"logit_bias": {"05": 1}}, "logit_bias.05"),
        ({"logit_bias": {"5": 101}}, "logit_bias.5"),
        ({"logit_bias": {"5": True}}, "logit_bias.5"),
        ({"logit_bias": {str(i): 1 for i in range(301)}}, "logit_bias"),
        ({"bad_words": "no"}, "bad_words"),
        ({"bad_words": [""]}, "bad_words.0"),
        ({"bad_words": ["a"] * 65}, "bad_words"),
        ({"best_of": 2}, "best_of"),
        ({"best_of": 2, "n": 3}, "best_of"),
        ({"service_tier": "flex"}, "service_tier"),
        ({"include_stop_str_in_output": 1}, "include_stop_str_in_output"),
        ({"suffix": ""}, "suffix"),
        ({"messages": []}, "messages"),
    ],
)
def test_the_first_wrong_field_of_a_completion_is_named(changes: dict[str, object], param: str) -> None:
    assert refused(completion, **changes).param == param


def test_what_is_missing_is_named() -> None:
    with pytest.raises(InvalidRequest, match="model: missing"):
        parse_chat(b"{}")


@pytest.mark.parametrize(
    ("endpoint", "body", "documented"),
    [
        (chat, ChatBody, completion_create_params.ChatCompletionCreateParamsBase)
        if hasattr(completion_create_params, "ChatCompletionCreateParamsBase")
        else (chat, ChatBody, completion_create_params.CompletionCreateParamsBase),
        (completion, CompletionBody, CompletionCreateParamsBase),
    ],
)
def test_every_field_that_openai_documents_is_served_or_refused_by_name(
    endpoint: Any, body: Any, documented: Any
) -> None:
    for name in documented.__annotations__:
        if name not in body.model_fields:
            error = refused(endpoint, **{name: "something else"})
            assert error.param == name
            assert error.message == f"{name}: not supported by this server: {body.not_served[name].why}"
            endpoint(**{name: None})


@pytest.mark.parametrize(
    "neutral",
    [
        {"logprobs": False, "top_logprobs": 0},
        {"tools": [], "tool_choice": "none", "parallel_tool_calls": True},
        {"response_format": {"type": "text"}, "modalities": ["text"]},
        {"logit_bias": {}, "store": False, "service_tier": "auto", "verbosity": "medium"},
        {"safety_identifier": "s", "prompt_cache_key": "k", "prompt_cache_retention": "in_memory"},
        {"skip_special_tokens": True, "spaces_between_special_tokens": False, "add_generation_prompt": True},
        {"user": "u", "metadata": {"k": "v"}, "stop": None, "seed": None, "max_tokens": None},
    ],
)
def test_values_that_change_nothing_are_accepted(neutral: dict[str, object]) -> None:
    assert chat(**neutral).model == "demo"


@pytest.mark.parametrize(
    ("endpoint", "sent"),
    [
        (
            completion,  # vllm bench serve --backend openai --ignore-eos
            {"repetition_penalty": 1.0, "max_tokens": 64, "logprobs": None, "stream": True, "ignore_eos": True,
             "temperature": 0.0, "stream_options": {"include_usage": True}},
        ),
        (
            chat,  # vllm bench serve --backend openai-chat
            {"messages": [{"role": "user", "content": [{"type": "text", "text": "a"}]}], "max_completion_tokens": 64,
             "stream": True, "stream_options": {"include_usage": True}, "ignore_eos": True},
        ),
        (
            chat,  # aiperf profile --endpoint-type chat --streaming
            {"messages": [{"role": "user", "content": "a", "name": None}], "stream": True, "max_completion_tokens": 9,
             "stream_options": {"include_usage": True}},
        ),
    ],
)  # fmt: skip
def test_what_the_load_generators_send_is_understood(endpoint: Any, sent: dict[str, object]) -> None:
    assert endpoint(**sent).wants_usage


@pytest.mark.parametrize("body", [ChatBody, CompletionBody, StreamOptions])
def test_no_field_is_both_served_and_not(body: Any) -> None:
    assert not body.model_fields.keys() & body.not_served.keys()


def test_how_many_alternatives_are_told() -> None:
    assert chat().alternatives is None
    assert chat(logprobs=True).alternatives == 0
    assert chat(logprobs=True, top_logprobs=20).alternatives == 20
    assert completion(logprobs=0).alternatives == 0
    assert completion(max_tokens=0, echo=True, logprobs=5).alternatives == 5


def test_reasoning_effort_is_the_template_s_switches_unless_these_are_given() -> None:
    assert chat().conversation.options is None
    assert chat(reasoning_effort="none").conversation.options == {"reasoning_effort": "none", "enable_thinking": False}
    given = chat(reasoning_effort="high", chat_template_kwargs={"enable_thinking": False}).conversation.options
    assert given == {"reasoning_effort": "high", "enable_thinking": False}
    assert refused(chat, reasoning_effort="huge").param == "reasoning_effort"


def test_biases_are_of_token_ids() -> None:
    assert chat(logit_bias={"0": -100, "7": 0.5}).biases == [(0, -100.0), (7, 0.5)]


def test_best_of_may_say_what_n_says() -> None:
    assert completion(best_of=3, n=3).n == 3
    assert completion(best_of=1).n is None


def test_true_is_not_the_neutral_one() -> None:
    assert refused(completion, best_of=True).param == "best_of"
    assert refused(chat, top_logprobs=False).param == "top_logprobs"


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b'"a"', b"nul", b"\xff", b'{"n":NaN}', b'{"n":1e999}', b"\xef\xbb\xbf{}"]
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequest):
        parse_chat(body)


MIB4 = 4 << 20


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","prompt":[' + b"[]," * (MIB4 // 3) + b"[]]}",
        b'{"model":"m","prompt":[' + b'"",' * (MIB4 // 3) + b'""]}',
        b'{"model":"m","prompt":[1,' + b'"",' * (MIB4 // 3) + b'""]}',
        b'{"model":"m","prompt":"","stop":[' + b"1," * (MIB4 // 2) + b"1]}",
        b'{"model":"m","messages":[' + b"{}," * (BRACKETS_MAX - 2) + b"1]}",
        b'{"model":"m","messages":[{"role":"user","content":[' + b"1," * (MIB4 // 2) + b"1]}]}",
        b"{" + b",".join(b'"%d":0' % i for i in range(MIB4 // 12)) + b"}",
        b"[" * MIB4,
        b'{"a":' * (MIB4 // 5),
    ],
    ids=["lists", "texts", "not ids", "stops", "messages", "parts", "unknown fields", "deep lists", "deep objects"],
)
def test_a_body_of_a_million_wrong_things_is_refused_in_moments(body: bytes) -> None:
    begun = time.process_time()
    for parse in (parse_completion, parse_chat):
        with pytest.raises(InvalidRequest):
            parse(body)
    assert time.process_time() - begun < 1.5


def test_a_refusal_quotes_no_more_than_a_few_words_of_the_body() -> None:
    error = refused(chat, **{"k" * 100_000: 1})
    assert len(error.message) < 300


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
_NAMES = st.sampled_from(sorted({*ChatBody.model_fields, *CompletionBody.model_fields, *ChatBody.not_served}))


@settings(max_examples=300, deadline=None)
@given(st.dictionaries(_NAMES | st.text(max_size=5), _ANYTHING, max_size=5))
def test_whatever_the_body_holds_it_is_read_or_a_field_of_it_is_named(changes: dict[str, object]) -> None:
    raw = {**HELLO, "prompt": "a", **changes}
    for parse in (parse_chat, parse_completion):
        named = _refused_field(parse, json.dumps(raw, allow_nan=False).encode())
        assert named is None or named.partition(".")[0] in {name.partition(".")[0] for name in raw}


def _refused_field(parse: Any, body: bytes) -> str | None:
    try:
        parse(body)
    except InvalidRequest as error:
        return error.param
    return None


def test_a_message_that_the_openai_package_has_parsed_can_be_sent_back() -> None:
    call = {"name": "f", "arguments": '{"a": 1}', "parsed_arguments": {"a": 1}}
    said = {"role": "assistant", "content": "{}", "parsed": {"b": [2]}, "tool_calls": [{"id": "c", "function": call}]}
    body = parse_chat(json.dumps({"model": "demo", "messages": [said]}).encode())
    assert body.conversation.messages[0].calls[0].arguments == '{"a": 1}'
