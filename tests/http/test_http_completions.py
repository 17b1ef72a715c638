"""What a client sees of a completion: shapes, streams, stop strings, errors before and after the first byte."""

import asyncio
import math
import threading
from typing import Any

import pytest
from http_house import House
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from aruntime.queue.records import FinishReason
from aruntime.queue.steering import steering
from aruntime.wire.answers import Answer


async def test_a_whole_chat_answer_is_openai_s_shape(house: House) -> None:
    client = house.chat()
    *at, head = await house.submitted()
    house.say(tuple(at), "hello", FinishReason.STOP)
    reply = (await client.done()).json
    ChatCompletion.model_validate(reply)
    assert reply["choices"][0]["message"] == {"role": "assistant", "content": "hello", "refusal": None}
    assert reply["choices"][0]["finish_reason"] == "stop"
    assert reply["usage"]["prompt_tokens"] == len(head["prompt"]) == len("<|user|>hi<|assistant|>")
    assert reply["usage"]["completion_tokens"] == 5
    assert client.headers["x-model-version"] == "demo@3"
    assert client.headers["x-request-attempt"] == "1"


async def test_a_whole_completion_is_openai_s_shape(house: House) -> None:
    client = house.complete(max_tokens=3)
    *at, head = await house.submitted()
    assert head["max_tokens"] == 3
    house.say(tuple(at), "abc", FinishReason.LENGTH)
    reply = (await client.done()).json
    Completion.model_validate(reply)
    assert (reply["choices"][0]["text"], reply["choices"][0]["finish_reason"]) == ("abc", "length")


async def test_a_stream_has_the_role_first_one_finish_reason_usage_last_and_done(house: House) -> None:
    client = house.chat(stream=True, stream_options={"include_usage": True})
    *at, _ = await house.submitted()
    house.say(tuple(at), "ab")
    await asyncio.sleep(0.05)
    house.say(tuple(at), "c", FinishReason.STOP)
    *chunks, usage, done = (await client.done()).events
    assert done == "data: [DONE]"
    for chunk in [*chunks, usage]:
        ChatCompletionChunk.model_validate(chunk)
    assert chunks[0]["choices"][0]["delta"] == {"role": "assistant", "content": "", "refusal": None}
    assert [c["choices"][0]["finish_reason"] for c in chunks].count("stop") == 1
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert all(chunk["usage"] is None for chunk in chunks)
    assert usage["choices"] == []
    assert usage["usage"]["completion_tokens"] == 3
    assert client.text == "abc"


async def test_a_character_is_never_cut(house: House) -> None:
    client = house.chat(stream=True)
    *at, _ = await house.submitted()
    for token in house.ids("aé漢"):
        house.say(tuple(at), [token])
        await asyncio.sleep(0.01)
    house.say(tuple(at), [], FinishReason.STOP)
    assert (await client.done()).text == "aé漢"
    assert "\ufffd" not in client.body.decode()


async def test_a_stop_string_across_tokens_is_not_shown_and_ends_the_sequence(house: House) -> None:
    client = house.chat(stream=True, stop=["END", "never"])
    *at, _ = await house.submitted()
    for letter in "so E it ENDs":
        house.say(tuple(at), letter)
        await asyncio.sleep(0.01)
    assert (await client.done()).text == "so E it "
    assert client.events[-2]["choices"][0]["finish_reason"] == "stop"
    house.engine.receive()
    assert house.view.door is not None


async def test_what_only_looked_like_a_stop_string_is_shown_at_the_end(house: House) -> None:
    client = house.complete(stop="abcd")
    *at, _ = await house.submitted()
    house.say(tuple(at), "xabc", FinishReason.LENGTH)
    assert (await client.done()).json["choices"][0]["text"] == "xabc"


async def test_choices_interleave_and_each_ends_once(house: House) -> None:
    client = house.complete(n=2, stream=True, seed=7)
    *first, one = await house.submitted()
    *second, two = await house.submitted()
    assert (one["seed"], two["seed"]) == (7, 8)
    house.say(tuple(second), "b", FinishReason.STOP)
    house.say(tuple(first), "a", FinishReason.LENGTH)
    choices = [event["choices"][0] for event in (await client.done()).events[:-1]]
    assert {c["index"]: c["text"] for c in choices if c["text"]} == {0: "a", 1: "b"}
    assert {c["index"]: c["finish_reason"] for c in choices if c["finish_reason"]} == {0: "length", 1: "stop"}


async def test_prompts_may_be_texts_and_token_ids(house: House) -> None:
    client = house.complete(prompt=["ab", [5, 6, 7]])
    *first, one = await house.submitted()
    *second, two = await house.submitted()
    assert (one["prompt"], two["prompt"]) == (house.ids("ab"), [5, 6, 7])
    house.say(tuple(first), [], FinishReason.STOP)
    house.say(tuple(second), [], FinishReason.STOP)
    assert (await client.done()).json["usage"]["prompt_tokens"] == 5


async def test_sampling_fields_reach_the_engine(house: House) -> None:
    client = house.complete(
        temperature=0.5, top_p=0.75, top_k=9, min_p=0.25, presence_penalty=-1, frequency_penalty=1.5,
        repetition_penalty=1.25, seed=-1, ignore_eos=True, min_tokens=2, stop_token_ids=[4, 5],
    )  # fmt: skip
    *at, head = await house.submitted()
    house.say(tuple(at), [], FinishReason.STOP)
    await client.done()
    assert head["seed"] == 2**64 - 1
    assert (head["temperature"], head["top_p"], head["top_k"], head["min_p"]) == (0.5, 0.75, 9, 0.25)
    assert (head["presence_penalty"], head["frequency_penalty"], head["repetition_penalty"]) == (-1, 1.5, 1.25)
    assert (head["ignore_eos"], head["min_tokens"], head["stop_token_ids"]) == (True, 2, [4, 5])


async def test_biases_bad_words_and_wanted_logprobs_reach_the_engine(house: House) -> None:
    client = house.complete(logit_bias={"5": -100}, bad_words=["no"], logprobs=3, echo=True, max_tokens=0)
    *at, head = await house.submitted()
    wanted = steering([(5, -100.0)], [house.ids("no"), house.ids(" no")])
    assert (head["bias_pairs"], head["bad_words"], head["bad_word_tokens"]) == wanted[:3]
    assert head["payload"] == wanted.payload
    assert (head["top_logprobs"], head["prompt_logprobs"], head["max_tokens"]) == (3, True, 1)
    house.score(tuple(at), house.ids("a"), FinishReason.LENGTH, head["prompt"], 3)
    assert (await client.done()).json["choices"][0]["text"] == "hi"


async def test_many_logprobs_are_written_beside_the_event_loop(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("aruntime.http.generation._SCORED_INLINE_MAX", 2)
    threads: list[str] = []
    whole = Answer.whole

    def noted(self: Answer, *answers: Any) -> bytes:
        threads.append(threading.current_thread().name)
        return whole(self, *answers)

    monkeypatch.setattr(Answer, "whole", noted)
    for said in ("ab", "abc"):
        client = house.complete(logprobs=0)
        *at, _ = await house.submitted()
        house.score(tuple(at), house.ids(said), FinishReason.LENGTH)
        assert (await client.done()).json["choices"][0]["logprobs"]["tokens"] == list(said)
    assert [name == threading.main_thread().name for name in threads] == [True, False]


async def test_an_echo_too_long_to_tell_is_refused_with_the_numbers(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aruntime.http.asks.ECHOED_MAX", 100)
    refused = await house.complete(prompt="x" * 34, echo=True, n=3).done()
    assert (refused.status, refused.json["error"]["param"]) == (400, "echo")
    assert "102" in refused.json["error"]["message"]
    client = house.complete(prompt="x" * 34, echo=True)
    *at, _ = await house.submitted()
    house.say(tuple(at), "a", FinishReason.LENGTH)
    assert (await client.done()).json["choices"][0]["text"] == "x" * 34 + "a"


async def test_an_error_after_the_first_chunk_is_an_event_not_a_status(house: House) -> None:
    client = house.chat(stream=True)
    *at, _ = await house.submitted()
    house.say(tuple(at), "a")
    await asyncio.sleep(0.05)
    house.view.withdraw(0)
    await client.done()
    assert client.status == 200
    assert client.events[-1]["error"]["code"] == "model_error"
    assert set(client.events[-1]["error"]) == {"message", "type", "param", "code"}
    assert b"[DONE]" not in client.body


@pytest.mark.parametrize(
    ("finish", "status", "code"),
    [
        (FinishReason.MODEL_ERROR, 500, "model_error"),
        (FinishReason.OVERLOADED, 503, "overloaded"),
        (FinishReason.DEADLINE, 504, "deadline_exceeded"),
        (FinishReason.DRAINING, 503, "draining"),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_an_error_before_the_first_byte_has_its_status(
    house: House, finish: FinishReason, status: int, code: str, stream: bool
) -> None:
    client = house.chat(stream=stream)
    *at, _ = await house.submitted()
    house.say(tuple(at), [], finish)
    await client.done()
    assert (client.status, client.json["error"]["code"]) == (status, code)
    assert ("retry-after" in client.headers) == (status == 503)


async def test_a_deadline_without_a_token_is_504(house: House) -> None:
    client = house.chat({"x-request-timeout-ms": "40"}, stream=True)
    await house.submitted()
    assert (await client.done()).status == 504


async def test_a_client_that_leaves_cancels_its_sequence_and_gets_nothing_more(house: House) -> None:
    client = house.chat(stream=True)
    slot, generation, _ = await house.submitted()
    house.say((slot, generation), "a")
    await asyncio.sleep(0.05)
    client.leave()
    await client.done()
    sent = len(client.sent)
    message = house.engine.receive()
    assert message == ("cancel", slot, generation)
    house.say((slot, generation), "b", FinishReason.CANCELLED)
    await asyncio.sleep(0.05)
    assert len(client.sent) == sent


async def test_a_client_that_leaves_before_the_answer_cancels_too(house: House) -> None:
    client = house.chat()
    slot, generation, _ = await house.submitted()
    client.leave()
    await client.done()
    assert client.sent == []
    assert house.engine.receive() == ("cancel", slot, generation)


async def test_a_full_house_answers_503_at_once_and_says_when(house: House) -> None:
    waiting = [house.chat() for _ in range(4)]
    for _ in waiting:
        await house.submitted()
    refused = await house.chat().done()
    assert (refused.status, refused.json["error"]["code"]) == (503, "overloaded")
    assert int(refused.headers["retry-after"]) >= 1
    for client in waiting:
        client.leave()
        await client.done()


async def test_a_draining_server_answers_503_draining(house: House) -> None:
    house.view.door.draining = True
    refused = await house.chat().done()
    assert (refused.status, refused.json["error"]["code"]) == (503, "draining")


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": [{"role": "user", "content": 5}]}, "messages.0.content"),
        ({"messages": [{"role": "king", "content": "x"}]}, "messages.0.role"),
        (
            {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}]},
            "messages.0.content.0.type",
        ),
        ({"temperature": 3}, "temperature"),
        ({"temperature": True}, "temperature"),
        ({"temperature": "1"}, "temperature"),
        ({"n": True}, "n"),
        ({"n": 17}, "n"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"max_tokens": 2**70}, "max_tokens"),
        ({"stop": ["a"] * 5}, "stop"),
        ({"stop": ""}, "stop"),
        ({"stop_token_ids": [10**6]}, "stop_token_ids"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"tools": [{"type": "function"}]}, "tools.0.function"),
        ({"top_logprobs": 2}, "top_logprobs"),
        ({"logit_bias": {"256": 1}}, "logit_bias"),
        ({"prediction": {}}, "prediction"),
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"guided_regex": "("}, "guided_regex"),
        ({"guided_regex": "a", "min_tokens": 1}, "min_tokens"),
        ({"best_friend": 1}, "best_friend"),
    ],
)
async def test_the_first_wrong_field_is_named(house: House, changes: dict[str, object], param: str) -> None:
    refused = await house.chat(**changes).done()
    assert (refused.status, refused.json["error"]["code"]) == (400, "invalid_request_error")
    assert refused.json["error"]["param"] == param
    assert house.engine.receive() is None


async def test_fields_that_change_nothing_are_accepted(house: House) -> None:
    client = house.chat(
        user="u", metadata={"a": "b"}, logprobs=False, tools=None, response_format={"type": "text"}, store=False
    )
    *at, _ = await house.submitted()
    house.say(tuple(at), [], FinishReason.STOP)
    assert (await client.done()).status == 200


async def test_too_long_a_context_is_refused_with_the_numbers(house: House) -> None:
    refused = await house.complete(prompt="x" * 199, max_tokens=2).done()
    assert (refused.status, refused.json["error"]["code"]) == (400, "context_length_exceeded")
    assert "199" in refused.json["error"]["message"]
    assert "200" in refused.json["error"]["message"]


async def test_a_chat_without_max_tokens_may_fill_the_context(house: House) -> None:
    client = house.chat()
    *at, head = await house.submitted()
    assert len(head["prompt"]) + head["max_tokens"] == 200
    assert head["deadline_s"] == math.inf
    house.say(tuple(at), [], FinishReason.STOP)
    await client.done()
