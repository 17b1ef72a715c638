"""Bodies of /tokenize and /detokenize: what is read, and which field a refusal names."""

import json
from typing import Any

import pytest

from aruntime.base.errors import InvalidRequest
from aruntime.wire.tokens import TokenizeChat, TokenizeText, parse_detokenize, parse_tokenize

CHAT = {"messages": [{"role": "user", "content": "hi"}]}


def tokenize(**body: Any) -> TokenizeText | TokenizeChat:
    return parse_tokenize(json.dumps({"model": "demo", **body}).encode())


def test_a_body_with_messages_is_a_conversation_and_one_with_a_prompt_is_not() -> None:
    assert isinstance(tokenize(prompt="hi"), TokenizeText)
    assert isinstance(tokenize(**CHAT, add_generation_prompt=False), TokenizeChat)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "prompt"),
        ({"prompt": 1}, "prompt"),
        ({"prompt": "hi", **CHAT}, "prompt"),
        ({"prompt": "hi", "add_special_tokens": 1}, "add_special_tokens"),
        ({"prompt": "hi", "add_generation_prompt": True}, "add_generation_prompt"),
        ({**CHAT, "chat_template": "{{ x }}"}, "chat_template"),
        ({**CHAT, "continue_final_message": True}, "continue_final_message"),
        ({"messages": []}, "messages"),
    ],
)
def test_the_wrong_field_of_tokenize_is_named(body: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        tokenize(**body)
    assert refused.value.param == param


@pytest.mark.parametrize(
    ("tokens", "param"), [([1, -1], "tokens.1"), ([True], "tokens.0"), ([2**31], "tokens.0"), ("ab", "tokens")]
)
def test_ids_to_detokenize_are_checked(tokens: object, param: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        parse_detokenize(json.dumps({"model": "demo", "tokens": tokens}).encode())
    assert refused.value.param == param
