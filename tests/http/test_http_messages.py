"""/v1/messages over ASGI: what the engine is asked, how an answer ends, and in which form an error comes."""

import json
from pathlib import Path
from typing import Any

import pytest
from http_house import Client, House

from aruntime.queue.columns import ENGINE_ROW, Column
from aruntime.queue.records import FinishReason
from aruntime.wire.grammars import json_grammar

PATH = "/v1/messages"
USER = {"role": "user", "content": "hi"}


def ask(house: House, headers: dict[str, str] | None = None, /, **changes: object) -> Client:
    return house.client(PATH, {"model": "demo", "max_tokens": 50, "messages": [USER], **changes}, headers)


def events(client: Client) -> list[dict[str, Any]]:
    told = client.body.decode().removesuffix("\n\n").split("\n\n")
    return [json.loads(event.partition("\ndata: ")[2]) for event in told]


async def test_the_engine_is_asked_as_a_chat_would_ask_it(house: House) -> None:
    ask(house, system="be short", temperature=0.5, top_k=3, max_tokens=9)
    *_, head = await house.submitted()
    assert head["prompt"] == house.ids("<|system|>be short<|user|>hi<|assistant|>")
    assert (head["max_tokens"], head["temperature"], head["top_k"]) == (9, 0.5, 3)


async def test_a_stop_sequence_is_told_and_not_shown(house: House) -> None:
    client = ask(house, stop_sequences=["END"])
    house.say((await house.submitted())[:2], "abc END and", FinishReason.LENGTH)
    told = (await client.done()).json
    assert told["content"] == [{"type": "text", "text": "abc "}]
    assert (told["stop_reason"], told["stop_sequence"]) == ("stop_sequence", "END")


async def test_more_tokens_than_the_context_has_are_as_many_as_fit(house: House) -> None:
    client = ask(house, max_tokens=32_000)
    slot, generation, head = await house.submitted()
    assert head["max_tokens"] == 200 - len(head["prompt"])
    house.say((slot, generation), "abc", FinishReason.LENGTH)
    assert (await client.done()).json["stop_reason"] == "model_context_window_exceeded"


async def grammar(house: House) -> str:
    """What the next answer is held to."""
    *_, head = await house.submitted()
    return str(head["payload"][len(head["payload"]) - head["grammar_bytes"] :].decode())


async def test_what_the_answer_must_be_goes_to_the_engine_as_a_grammar(house: House) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    ask(house, output_config={"format": {"type": "json_schema", "schema": schema}})
    assert await grammar(house) == json_grammar(schema)


@pytest.mark.parametrize(
    ("choice", "held"),
    [
        ({"type": "auto"}, False),
        ({"type": "none"}, False),
        ({"type": "any"}, True),
        ({"type": "tool", "name": "f"}, True),
    ],
)
async def test_calls_that_must_be_made_are_held_to_their_schema(tmp_path: Path, choice: object, held: bool) -> None:
    house = House(tmp_path, context=2000)
    ask(house, tools=[{"name": "f", "input_schema": {"type": "object", "required": ["abc"]}}], tool_choice=choice)
    assert ('"abc"' in await grammar(house)) == held
    house.close()


async def test_a_schema_that_cannot_be_held_names_its_field(house: House) -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "pattern": "(?=a)b"}}}
    refused = await ask(house, output_config={"format": {"type": "json_schema", "schema": schema}}).done()
    assert (refused.status, refused.json["error"]["param"]) == (400, "output_config.format.schema")


async def test_a_failure_in_a_stream_is_its_last_event(house: House) -> None:
    client = ask(house, stream=True)
    at = (await house.submitted())[:2]
    house.say(at, "abc")
    house.say(at, [], FinishReason.MODEL_ERROR)
    told = events(await client.done())
    assert [event["type"] for event in told][-2:] == ["content_block_delta", "error"]
    assert told[-1]["error"]["type"] == "api_error"
    assert told[-1]["request_id"] == client.headers["request-id"] == client.headers["x-request-id"]


async def test_tokens_are_counted_without_the_engine(house: House) -> None:
    house.view.door.draining = True
    body = {"model": "demo", "messages": [USER], "system": "be short"}
    counted = await house.client(f"{PATH}/count_tokens", body).done()
    assert counted.json == {"input_tokens": len(house.ids("<|system|>be short<|user|>hi<|assistant|>"))}


@pytest.mark.parametrize(
    ("path", "body", "more", "status", "kind", "code"),
    [
        (PATH, {"model": "demo"}, {}, 400, "invalid_request_error", "invalid_request_error"),
        (PATH, {}, {"host": "a b"}, 400, "invalid_request_error", "invalid_request_error"),
        (PATH, {}, {"content-type": "text/plain"}, 415, "invalid_request_error", "unsupported_media_type"),
        (PATH, {}, {"content-length": "9999999999"}, 413, "request_too_large", "request_too_large"),
        (f"{PATH}/batches", {}, {}, 404, "not_found_error", "not_found"),
        (f"{PATH}/count_tokens", {"model": "x", "messages": [USER]}, {}, 404, "not_found_error", "model_not_found"),
    ],
)
async def test_whoever_refuses_says_it_in_anthropic_s_form(
    house: House, path: str, body: object, more: dict[str, str], status: int, kind: str, code: str
) -> None:
    refused = await house.client(path, body, more).done()
    error = refused.json["error"]
    assert (refused.status, refused.json["type"], error["type"], error["code"]) == (status, "error", kind, code)
    assert refused.json["request_id"] == refused.headers["request-id"]


async def test_a_full_server_is_an_overloaded_error_that_says_when(house: House) -> None:
    house.table.set(ENGINE_ROW, Column.PREFILL_TOKENS_PER_S, 10)
    ask(house, messages=[{"role": "user", "content": "x" * 80}])
    await house.submitted()
    refused = await ask(house).done()
    assert (refused.status, refused.json["error"]["type"]) == (503, "overloaded_error")
    assert int(refused.headers["retry-after"]) > 0
