"""Anthropic's SDK, unmodified, on a real server."""

import json
from collections.abc import Iterator
from typing import Any

import anthropic
import pytest
from e2e_server import Server, until

ASK: Any = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 6}
ASK["extra_body"] = {"temperature": 0}  # which the package has no parameter for


@pytest.fixture
def client(server: Server) -> Iterator[anthropic.Anthropic]:
    with anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0) as made:
        yield made


def test_a_message_says_the_same_streamed_and_whole(client: anthropic.Anthropic) -> None:
    whole = client.messages.create(**ASK)
    with client.messages.stream(**ASK) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert [block.text for block in final.content if block.type == "text"] == [text]
    assert [block.text for block in whole.content if block.type == "text"] == [text]
    assert final.stop_reason == whole.stop_reason == "max_tokens"
    assert final.usage.output_tokens == whole.usage.output_tokens == 6


def test_a_prompt_s_tokens_are_the_counted_ones_cached_or_not(client: anthropic.Anthropic) -> None:
    ask = {**ASK, "system": "a prefix that is longer than a block of the cache " * 4}
    counted = client.messages.count_tokens(**{name: ask[name] for name in ("model", "messages", "system")})
    first, again = client.messages.create(**ask), client.messages.create(**ask)
    for one in (first, again):
        assert one.usage.input_tokens + (one.usage.cache_read_input_tokens or 0) == counted.input_tokens
    assert again.usage.cache_read_input_tokens


def test_a_stream_that_is_left_is_cancelled_in_the_engine(client: anthropic.Anthropic, server: Server) -> None:
    with client.messages.create(**{**ASK, "max_tokens": 30_000}, stream=True) as stream:
        assert next(iter(stream)).type == "message_start"
    until(lambda: server.metric("aruntime_sequences_in_flight") == 0)


def test_refusals_one_after_the_other_leave_their_connection_whole(client: anthropic.Anthropic) -> None:
    for _ in range(20):
        with pytest.raises(anthropic.BadRequestError):
            client.messages.create(**{**ASK, "extra_body": {"temperature": 9}})
        with pytest.raises(anthropic.NotFoundError):
            client.messages.create(**{**ASK, "model": "other"})
        with pytest.raises(anthropic.APIStatusError) as refused:
            client.messages.create(**ASK, extra_headers={"content-type": "text/plain"})
        assert refused.value.status_code == 415


def test_a_call_that_must_be_made_and_json_that_must_be_said_are_valid(client: anthropic.Anthropic) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"], "additionalProperties": False}
    ask = {**ASK, "max_tokens": 300}
    called = client.messages.create(
        **ask, tools=[{"name": "f", "input_schema": schema, "strict": True}], tool_choice={"type": "tool", "name": "f"}
    )
    (call,) = (block for block in called.content if block.type == "tool_use")
    assert (called.stop_reason, call.name, call.input["a"] in (1, 2)) == ("tool_use", "f", True)
    said = client.messages.create(**ask, output_config={"format": {"type": "json_schema", "schema": schema}})
    assert [json.loads(block.text)["a"] in (1, 2) for block in said.content if block.type == "text"] == [True]
