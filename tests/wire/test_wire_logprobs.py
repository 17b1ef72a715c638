"""Logprobs in the shapes of chat and of completions, valid against the openai package's types."""

import json

from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.chat.chat_completion import ChoiceLogprobs
from openai.types.completion_choice import Logprobs

from aruntime.wire.answers import Answer, Usage
from aruntime.wire.logprobs import chat_logprobs, completion_logprobs
from aruntime.wire.said import Answered, Chosen, Finish, Likely, Said, Text

TOKENS = [
    Chosen("a", b"a", -0.25, 0, (Likely("a", b"a", -0.25), Likely("\ufffd", b"\xc3", float("-inf")))),
    Chosen("\ufffd", b"\xa9", -1.0, 1),
]


def answer(*, chat: bool) -> Answer:
    return Answer(chat=chat, request_id="r1", model="m", fingerprint="m@1", created_s=1, wants_logprobs=True)


def test_chat_has_a_list_of_tokens_with_their_bytes() -> None:
    told = chat_logprobs(TOKENS)
    ChoiceLogprobs.model_validate(told, strict=True)
    assert told["content"][0] == {
        "token": "a",
        "logprob": -0.25,
        "bytes": [97],
        "top_logprobs": [
            {"token": "a", "logprob": -0.25, "bytes": [97]},
            {"token": "\ufffd", "logprob": -9999.0, "bytes": [0xC3]},
        ],
    }
    assert told["content"][1] == {"token": "\ufffd", "logprob": -1.0, "bytes": [0xA9], "top_logprobs": []}


def test_completions_have_lists_beside_each_other() -> None:
    told = completion_logprobs(TOKENS)
    Logprobs.model_validate(told, strict=True)
    assert told == {
        "tokens": ["a", "bytes:\\xa9"],
        "token_logprobs": [-0.25, -1.0],
        "top_logprobs": [{"a": -0.25, "bytes:\\xc3": -9999.0}, {"bytes:\\xa9": -1.0}],
        "text_offset": [0, 1],
    }


def test_what_nothing_foretells_has_null() -> None:
    told = completion_logprobs([Chosen("a", b"a", None)])
    assert (told["token_logprobs"], told["top_logprobs"]) == ([None], [None])


def test_an_event_has_the_tokens_of_its_text() -> None:
    said = Said([Text('"')], TOKENS[:1])
    event = json.loads(answer(chat=True).add(0, said).removeprefix(b"data: "))
    ChatCompletionChunk.model_validate(event, strict=True)
    assert event["choices"][0]["delta"] == {"content": '"'}
    assert event["choices"][0]["logprobs"] == chat_logprobs(TOKENS[:1])
    event = json.loads(answer(chat=False).add(0, said).removeprefix(b"data: "))
    assert event["choices"][0]["logprobs"] == completion_logprobs(TOKENS[:1])


def test_a_whole_answer_has_all_of_them() -> None:
    whole = json.loads(answer(chat=True).whole([Answered(Said([Text("a")], TOKENS), Finish("stop"))], Usage(1, 2)))
    ChatCompletion.model_validate(whole, strict=True)
    assert whole["choices"][0]["logprobs"] == chat_logprobs(TOKENS)


def test_an_answer_without_a_token_has_an_empty_list() -> None:
    whole = json.loads(answer(chat=True).whole([Answered(Said(), Finish("stop"))], Usage(1, 0)))
    assert whole["choices"][0]["logprobs"] == {"content": [], "refusal": None}
