"""The openai package's Responses client, unmodified, against the application."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import openai
import pytest
from http_house import House
from openai.types.responses import ResponseStreamEvent
from pydantic import TypeAdapter

from aruntime.queue.records import FinishReason

SAID = "Grüße, 世界!"
EVENT: TypeAdapter[Any] = TypeAdapter(ResponseStreamEvent)


def client_of(house: House) -> openai.AsyncOpenAI:
    transport = httpx2.ASGITransport(house.app, raise_app_exceptions=True)
    http = httpx2.AsyncClient(transport=transport)
    return openai.AsyncOpenAI(api_key="art-1", base_url="http://localhost/v1", max_retries=0, http_client=http)


@pytest.fixture
async def client(house: House) -> AsyncIterator[openai.AsyncOpenAI]:
    """A client of a server whose every answer is SAID."""
    engine = asyncio.create_task(house.answer_all(SAID))
    async with client_of(house) as made:
        yield made
    engine.cancel()


async def test_a_response_is_whole(client: openai.AsyncOpenAI) -> None:
    told = await client.responses.create(model="demo", input="hi", instructions="be short", metadata={"a": "b"})
    assert (told.output_text, told.status, told.metadata) == (SAID, "completed", {"a": "b"})
    assert told.usage is not None
    assert told.usage.output_tokens == len(SAID.encode())
    assert type(told).model_validate(told.model_dump(by_alias=True), strict=True)


async def test_a_stream_has_numbered_events_that_the_sdk_gathers(client: openai.AsyncOpenAI) -> None:
    async with client.responses.stream(model="demo", input="hi") as stream:
        events = [event async for event in stream]
        final = await stream.get_final_response()
    assert [event.sequence_number for event in events if hasattr(event, "sequence_number")] == list(range(len(events)))
    kinds = list(dict.fromkeys(event.type for event in events))
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        "response.output_text.delta",
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.completed",
    ]
    assert final.output_text == SAID


async def test_an_answer_that_is_cut_is_incomplete(house: House) -> None:
    engine = asyncio.create_task(house.answer_all("abc", FinishReason.LENGTH))
    async with client_of(house) as client:
        told = await client.responses.create(model="demo", input="hi", max_output_tokens=3)
        assert told.incomplete_details is not None
        assert (told.status, told.incomplete_details.reason) == ("incomplete", "max_output_tokens")
        async with client.responses.stream(model="demo", input="hi", max_output_tokens=3) as stream:
            events = [event async for event in stream]
    assert events[-1].type == "response.incomplete"
    engine.cancel()


@pytest.mark.parametrize(
    ("field", "value", "param"),
    [
        ("conversation", "conv_1", "conversation"),
        ("tools", [{"type": "web_search"}], "tools.0.type"),
        ("prompt", {"id": "p"}, "prompt"),
        ("truncation", "auto", "truncation"),
        ("input", [{"type": "item_reference", "id": "x"}], "input.0.type"),
        ("input", [{"role": "user", "content": [{"type": "input_image"}]}], "input.0.content.0.type"),
        ("input", [{"type": "function_call_output", "call_id": "c", "output": "o"}], "input"),
        ("nonsense", 1, "nonsense"),
        ("max_output_tokens", 0, "max_output_tokens"),
    ],
)
async def test_what_is_not_served_is_refused_by_name(house: House, field: str, value: Any, param: str) -> None:
    told = await house.client("/v1/responses", {"model": "demo", "input": "hi", field: value}).done()
    assert told.status == 400
    assert told.json["error"]["param"] == param
