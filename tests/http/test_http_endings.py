"""How a request ends when something goes wrong in its middle: the client leaves or stands still, a deadline, a bug."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest
from http_house import House

from aruntime.http.choices import Choice
from aruntime.http.limits import HttpLimits
from aruntime.queue.columns import RESULT_CODES, Column
from aruntime.queue.records import FinishReason


def counted(house: House) -> dict[str, int]:
    """How many requests ended, by code, as the metrics have it."""
    sums = {code: house.table.sum(Column.RESULTS + i) for i, code in enumerate(RESULT_CODES)}
    return {code: count for code, count in sums.items() if count}


async def until(condition: Any) -> None:
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not come to pass")


async def test_a_client_that_leaves_while_nothing_can_be_sent_to_it_is_noticed(house: House) -> None:
    client = house.chat(stream=True)
    client.network.clear()
    slot, generation, _ = await house.submitted()
    house.say((slot, generation), "a")
    await until(lambda: client.sent)
    client.leave()
    await client.done()
    assert house.engine.receive() == ("cancel", slot, generation)
    assert [message["type"] for message in client.sent] == ["http.response.start"]


async def test_a_client_that_does_not_read_has_its_sequence_ended_and_is_counted_apart(
    house: House, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    client = house.complete(stream=True)
    slot, generation, _ = await house.submitted()
    house.say((slot, generation), "a")
    await until(lambda: len(client.sent) > 1)
    client.network.clear()
    client.stalled = True
    house.say((slot, generation), "b")
    await client.done()
    assert house.engine.receive() == ("cancel", slot, generation)
    assert counted(house) == {"client_stalled": 1}
    assert "request.client_stalled" in caplog.text


async def test_tokens_are_written_without_a_message_for_each(house: House) -> None:
    client = house.complete(stream=True, max_tokens=50)
    at = (await house.submitted())[:2]
    for letter in "abcdefghij":
        house.say(at, letter)
        await asyncio.sleep(0.005)
    house.say(at, "k", FinishReason.STOP)
    await client.done()
    assert client.text == "abcdefghijk"
    assert client.awaited == 3  # the start, the first token, the end


async def test_a_client_that_leaves_while_it_sends_its_body_gets_nothing(house: House) -> None:
    client = house.chat()
    client._incoming.get_nowait()
    client._incoming.put_nowait({"type": "http.request", "body": b'{"model', "more_body": True})
    client.leave()
    await client.done()
    assert client.sent == []


async def test_a_deadline_in_a_stream_is_its_last_event(house: House) -> None:
    client = house.chat({"x-request-timeout-ms": "150"}, stream=True)
    slot, generation, _ = await house.submitted()
    house.say((slot, generation), "a")
    await client.done()
    assert client.status == 200
    assert client.events[-1]["error"]["code"] == "deadline_exceeded"
    assert house.engine.receive() == ("cancel", slot, generation)
    assert counted(house) == {"deadline_exceeded": 1}


@pytest.mark.parametrize("stream", [True, False])
async def test_a_bug_is_a_500_or_an_event_that_tells_nothing_of_it(
    house: House, stream: bool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    client = house.chat(stream=stream, messages=[{"role": "user", "content": "my secret"}])
    at = (await house.submitted())[:2]
    house.say(at, "a")
    await until(lambda: client.sent or not stream)

    def broken(*_: object) -> str:
        raise RuntimeError("secret of the server")

    monkeypatch.setattr(Choice, "take", broken)
    house.say(at, "b")
    await client.done()
    error = client.events[-1]["error"] if stream else client.json["error"]
    assert (client.status, error["code"]) == (200 if stream else 500, "model_error")
    assert "secret" not in client.body.decode() + caplog.text
    assert "RuntimeError" in caplog.text
    assert counted(house) == {"model_error": 1}


async def test_a_stop_string_frees_its_sequence_in_the_engine(house: House) -> None:
    client = house.chat(stop="b")
    slot, generation, _ = await house.submitted()
    house.say((slot, generation), "abc")
    reply = (await client.done()).json
    assert house.engine.receive() == ("cancel", slot, generation)
    assert (reply["choices"][0]["message"]["content"], reply["choices"][0]["finish_reason"]) == ("a", "stop")
    assert reply["usage"]["completion_tokens"] == 2


async def test_one_choice_that_stops_leaves_the_other_to_go_on(house: House) -> None:
    client = house.complete(n=2, stop="!", stream=True)
    first, second = (await house.submitted())[:2], (await house.submitted())[:2]
    house.say(first, "no!")
    await until(lambda: b'"finish_reason":"stop"' in client.body if client.sent else False)
    house.say(second, "yes", FinishReason.LENGTH)
    choices = [event["choices"][0] for event in (await client.done()).events[:-1]]
    assert "".join(choice["text"] for choice in choices if choice["index"] == 0) == "no"
    assert "".join(choice["text"] for choice in choices if choice["index"] == 1) == "yes"
    assert house.engine.receive() == ("cancel", *first)


async def test_cached_tokens_are_counted_once_a_prompt(house: House) -> None:
    client = house.complete(prompt=["ab", "cd"], n=2)
    places = [(await house.submitted())[:2] for _ in range(4)]
    for place, cached in zip(places, [2, 2, 1, 0], strict=True):
        house.engine.send([(*place, 65, 0, FinishReason.STOP, cached, 0.0)])
    house.engine.ring_bell()
    assert (await client.done()).json["usage"]["prompt_tokens_details"] == {"cached_tokens": 3}


async def test_what_this_model_never_takes_is_the_client_s_to_change(house: House) -> None:
    refused = await house.complete(n=5).done()
    assert (refused.status, refused.json["error"]["param"]) == (400, "n")
    refused = await house.complete(max_tokens=3, min_tokens=4).done()
    assert (refused.status, refused.json["error"]["param"]) == (400, "min_tokens")
    refused = await house.complete(prompt=[256]).done()
    assert (refused.status, refused.json["error"]["param"]) == (400, "prompt")
    refused = await house.complete(prompt="").done()
    assert (refused.status, refused.json["error"]["param"]) == (400, "prompt")
    refused = await house.complete(prompt="x" * 200).done()
    assert (refused.status, refused.json["error"]["code"]) == (400, "context_length_exceeded")
    assert counted(house) == {"invalid_request_error": 4, "context_length_exceeded": 1}


async def test_a_completion_without_max_tokens_ends_where_the_context_does(house: House) -> None:
    client = house.complete(prompt="x" * 195)
    *at, head = await house.submitted()
    assert head["max_tokens"] == 5
    house.say(tuple(at), [], FinishReason.STOP)  # type: ignore[arg-type]
    await client.done()


async def test_long_prompts_wait_for_a_thread_within_a_bound(tmp_path: Path) -> None:
    house = House(tmp_path, HttpLimits(inline_characters_max=4, encode_threads=1, encode_waiting_max=1))
    encode, gate = house.tokenizer.encode, threading.Event()

    def slow(text: str, *, add_bos: bool = True) -> list[int]:
        assert gate.wait(5)
        return encode(text, add_bos=add_bos)

    house.tokenizer.encode = slow  # type: ignore[method-assign, assignment]
    first = house.complete(prompt="a long prompt", max_tokens=1)
    await asyncio.sleep(0.02)
    second = await house.complete(prompt="another long prompt").done()
    assert (second.status, second.json["error"]["code"]) == (503, "overloaded")
    gate.set()
    at = (await house.submitted())[:2]
    house.say(at, "!", FinishReason.LENGTH)
    assert (await first.done()).status == 200
    house.close()


async def test_a_template_that_refuses_names_the_messages(house: House) -> None:
    refused = await house.chat(messages=[{"role": "user", "content": "x", "name": "refuse"}]).done()
    assert (refused.status, refused.json["error"]["param"]) == (400, "messages")


async def test_requests_are_counted_by_how_they_ended(house: House) -> None:
    client = house.chat()
    at = (await house.submitted())[:2]
    house.say(at, "a", FinishReason.STOP)
    await client.done()
    client = house.chat()
    at = (await house.submitted())[:2]
    client.leave()
    await client.done()
    assert counted(house) == {"ok": 1, "client_closed": 1}
