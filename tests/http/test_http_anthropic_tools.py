"""Tools and thoughts with the anthropic package, unmodified: what is heard, streamed, and fed back."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anthropic
import pytest
from http_house import House
from test_http_anthropic_sdk import client_of
from test_http_tools import CALLING, THINKING

TOOLS: list[anthropic.types.ToolParam] = [
    {"name": "weather", "description": "Now.", "input_schema": {"type": "object"}},
    {"name": "time", "input_schema": {"type": "object"}},
]
ASK: Any = {"model": "demo", "max_tokens": 500, "messages": [{"role": "user", "content": "hi"}]}


@asynccontextmanager
async def asking(folder: Path, answer: str, **more: Any) -> AsyncIterator[anthropic.AsyncAnthropic]:
    """A client of a server that always says `answer`."""
    house = House(folder, context=2000, **more)
    engine = asyncio.create_task(house.answer_all(answer))
    async with client_of(house) as client:
        yield client
    engine.cancel()
    house.close()


async def test_calls_are_blocks_whole_and_streamed_and_their_results_are_fed_back(tmp_path: Path) -> None:
    async with asking(tmp_path, CALLING) as client:
        whole = await client.messages.create(**ASK, tools=TOOLS)
        async with client.messages.stream(**ASK, tools=TOOLS) as stream:
            streamed = await stream.get_final_message()
        for message in (whole, streamed):
            text, weather, time = message.content
            assert text.type == "text"
            assert text.text == "Let me see."
            assert weather.type == time.type == "tool_use"
            assert (weather.name, weather.input) == ("weather", {"city": "Rome", "note": "a } END b"})
            assert (time.name, time.input) == ("time", {})
            assert message.stop_reason == "tool_use"
        results: list[Any] = [
            {"type": "tool_result", "tool_use_id": block.id, "content": "22 °C"}
            for block in whole.content
            if block.type == "tool_use"
        ]
        turns = [*ASK["messages"], whole.to_param(), {"role": "user", "content": results}]
        assert (await client.messages.create(**ASK | {"messages": turns}, tools=TOOLS)).stop_reason == "tool_use"


async def test_without_parallel_use_a_message_ends_with_its_first_call(tmp_path: Path) -> None:
    async with asking(tmp_path, CALLING) as client:
        choice: Any = {"type": "auto", "disable_parallel_tool_use": True}
        message = await client.messages.create(**ASK, tools=TOOLS, tool_choice=choice)
    assert [block.type for block in message.content] == ["text", "tool_use"]


async def test_tools_that_may_not_be_called_are_not_heard(tmp_path: Path) -> None:
    async with asking(tmp_path, CALLING) as client:
        message = await client.messages.create(**ASK, tools=TOOLS, tool_choice={"type": "none"})
    assert [block.type for block in message.content] == ["text"]
    assert message.stop_reason == "end_turn"


@pytest.mark.parametrize("stream", [False, True], ids=["whole", "streamed"])
async def test_a_thought_is_a_block_before_the_text_and_can_be_sent_back(tmp_path: Path, stream: bool) -> None:
    async with asking(tmp_path, "<think>\nhm\n</think>\n\nYes.", template=THINKING) as client:
        if stream:
            async with client.messages.stream(**ASK) as told:
                message: Any = await told.get_final_message()
        else:
            message = await client.messages.create(**ASK)
        thought, text = message.content
        assert (thought.type, thought.thinking.strip(), text.text.strip()) == ("thinking", "hm", "Yes.")
        assert thought.signature
        turns = [*ASK["messages"], message.to_param(), {"role": "user", "content": "and?"}]
        again = await client.messages.create(**ASK | {"messages": turns})
        assert again.usage.input_tokens > message.usage.input_tokens
