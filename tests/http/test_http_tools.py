"""Tools and thoughts through the application, with the openai package: what is heard, streamed, and fed back."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx2
import openai
import pytest
from http_house import TEMPLATE, House

from aruntime.queue.records import FinishReason

CALLING = (
    "Let me see.\n<tool_call>\n"
    '{"name": "weather", "arguments": {"city": "Rome", "note": "a } END b"}}\n</tool_call>\n<tool_call>\n'
    '{"name": "time", "arguments": {}}\n</tool_call>'
)
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "weather", "description": "Now.", "parameters": {"type": "object"}}},
    {"type": "function", "function": {"name": "time"}},
]
HI: list[Any] = [{"role": "user", "content": "hi"}]
THINKING = TEMPLATE + "{# </think> #}{% if open %}<think>\n{% endif %}"

Ask = Callable[..., Any]


@asynccontextmanager
async def asking(house: House, answer: str, finish: FinishReason = FinishReason.STOP) -> AsyncIterator[Ask]:
    """A client's `create`, of a server that always says `answer`."""
    engine = asyncio.create_task(house.answer_all(answer, finish))
    transport = httpx2.ASGITransport(house.app, raise_app_exceptions=True)
    http_client = httpx2.AsyncClient(transport=transport)
    async with openai.AsyncOpenAI(
        api_key="none", base_url="http://localhost/v1", max_retries=0, http_client=http_client
    ) as client:

        async def create(**options: Any) -> Any:
            return await client.chat.completions.create(**{"model": "demo", "messages": HI, **options})

        yield create
    engine.cancel()


@pytest.fixture
async def house(tmp_path: Path) -> AsyncIterator[House]:
    """A model whose template knows no tools."""
    made = House(tmp_path, context=2000)
    yield made
    made.close()


@pytest.fixture
async def thinking(tmp_path: Path) -> AsyncIterator[House]:
    """A model that thinks; its template may open a thought."""
    folder = tmp_path / "thinking"
    folder.mkdir()
    made = House(folder, template=THINKING)
    yield made
    made.close()


async def test_calls_are_told_apart_from_text(house: House) -> None:
    async with asking(house, CALLING) as create:
        choice = (await create(tools=TOOLS)).choices[0]
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", "Let me see.")
    assert [(call.type, call.function.name) for call in choice.message.tool_calls] == [
        ("function", "weather"),
        ("function", "time"),
    ]
    assert json.loads(choice.message.tool_calls[0].function.arguments) == {"city": "Rome", "note": "a } END b"}
    assert len({call.id for call in choice.message.tool_calls}) == 2


async def test_streamed_arguments_concatenate_to_the_json_of_each_call(house: House) -> None:
    async with asking(house, CALLING) as create:
        stream = await create(tools=TOOLS, stream=True)
        deltas = [chunk.choices[0] async for chunk in stream]
    pieces = [piece for choice in deltas for piece in choice.delta.tool_calls or ()]
    heads = [(piece.index, piece.function.name) for piece in pieces if piece.id]
    assert heads == [(0, "weather"), (1, "time")]
    arguments = ["", ""]
    for piece in pieces:
        arguments[piece.index] += piece.function.arguments
    assert [json.loads(text) for text in arguments] == [{"city": "Rome", "note": "a } END b"}, {}]
    assert "".join(choice.delta.content or "" for choice in deltas) == "Let me see."
    assert [choice.finish_reason for choice in deltas if choice.finish_reason] == ["tool_calls"]


async def test_arguments_are_streamed_as_they_are_said(house: House) -> None:
    client = house.chat(tools=TOOLS, stream=True)
    slot, generation, _ = await house.submitted()
    house.say((slot, generation), CALLING[: CALLING.index("me", 60)])
    for _ in range(1000):
        await asyncio.sleep(0.002)
        if b"city" in client.body:
            break
    assert client.events[-1]["choices"][0]["delta"]["tool_calls"][0]["function"]["arguments"] == '{"city": "Ro'
    house.say((slot, generation), CALLING[CALLING.index("me", 60) :], FinishReason.STOP)
    assert (await client.done()).events[-2]["choices"][0]["finish_reason"] == "tool_calls"


async def test_a_stop_string_in_arguments_or_a_thought_stops_nothing(house: House, thinking: House) -> None:
    async with asking(house, CALLING) as create:
        choice = (await create(tools=TOOLS, stop=["END"])).choices[0]
    assert (choice.finish_reason, len(choice.message.tool_calls)) == ("tool_calls", 2)
    async with asking(thinking, "<think>the END is near</think>It is END near.") as create:
        message = (await create(stop=["END"])).choices[0].message
    assert (message.reasoning_content, message.content) == ("the END is near", "It is ")


async def test_an_answer_cut_in_a_call_says_length(house: House) -> None:
    async with asking(house, CALLING[:80], FinishReason.LENGTH) as create:
        choice = (await create(tools=TOOLS)).choices[0]
    assert choice.finish_reason == "length"
    assert choice.message.tool_calls[0].function.name == "weather"


async def test_a_call_and_its_result_are_fed_back(house: House) -> None:
    async with asking(house, CALLING) as create:
        message = (await create(tools=TOOLS)).choices[0].message
        results = [{"role": "tool", "tool_call_id": call.id, "content": "22"} for call in message.tool_calls]
        answer = await create(messages=[*HI, message, *results], max_tokens=1)
    assert answer.usage.prompt_tokens > 100


async def test_without_parallel_calls_the_answer_ends_with_the_first(house: House) -> None:
    client = house.chat(tools=TOOLS, parallel_tool_calls=False)
    slot, generation, _ = await house.submitted()
    house.say((slot, generation), CALLING)
    while not house.cancelled:
        house.say((slot, generation), " and")
        await asyncio.sleep(0.002)
        message = house.engine.receive()
        if message is not None:
            house.cancelled.append(message[1])  # type: ignore[arg-type]
    house.say((slot, generation), [], FinishReason.CANCELLED)
    choice = (await client.done()).json["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert [call["function"]["name"] for call in choice["message"]["tool_calls"]] == ["weather"]


@pytest.mark.parametrize("choice", ["none", None])
async def test_where_no_tool_may_be_called_marks_are_text(house: House, choice: str | None) -> None:
    tools = {"tools": TOOLS, "tool_choice": choice} if choice else {}
    async with asking(house, CALLING) as create:
        answer = (await create(**tools)).choices[0]
    assert (answer.message.content, answer.message.tool_calls) == (CALLING, None)


async def test_tools_are_described_to_a_model_whose_template_knows_none(house: House) -> None:
    client = house.chat(tools=TOOLS[1:], max_tokens=1)
    slot, generation, submitted = await house.submitted()
    prompt = house.tokenizer.decode(list(submitted["prompt"]))
    assert prompt.startswith("<|system|># Tools")
    assert '{"type":"function","function":{"name":"time"' in prompt
    house.say((slot, generation), "x", FinishReason.LENGTH)
    await client.done()


async def test_thoughts_are_told_apart(thinking: House) -> None:
    async with asking(thinking, "<think>\nHm, hm.\n</think>\n\nYes.") as create:
        message = (await create()).choices[0].message
        assert (message.reasoning_content, message.reasoning, message.content) == ("Hm, hm.", "Hm, hm.", "Yes.")
        deltas = [chunk.choices[0].delta async for chunk in await create(stream=True)]
    thoughts = [delta.reasoning_content for delta in deltas if hasattr(delta, "reasoning_content")]
    assert ("".join(thoughts), "".join(delta.content or "" for delta in deltas)) == ("Hm, hm.", "Yes.")
    async with asking(thinking, "Hm.</think>Yes.") as create:
        message = (await create(extra_body={"chat_template_kwargs": {"open": True}})).choices[0].message
    assert (message.reasoning_content, message.content) == ("Hm.", "Yes.")


async def test_a_completion_is_told_whole(thinking: House) -> None:
    client = thinking.complete(max_tokens=50)
    slot, generation, _ = await thinking.submitted()
    thinking.say((slot, generation), "<think>Hm.</think>Yes.", FinishReason.STOP)
    assert (await client.done()).json["choices"][0]["text"] == "<think>Hm.</think>Yes."


NAMED = {"type": "function", "function": {"name": "time"}}


@pytest.mark.parametrize(
    ("choice", "strict", "held"),
    [
        ("required", False, True),
        (NAMED, False, True),
        ("auto", True, True),
        ("auto", False, False),
        ("none", True, False),
    ],
)
async def test_an_engine_is_given_the_grammar_of_calls_that_must_be_valid(
    house: House, choice: Any, strict: bool, held: bool
) -> None:
    tools = [{"type": "function", "function": {"name": "time", "strict": strict}}]
    client = house.chat(tools=tools, tool_choice=choice)
    slot, generation, head = await house.submitted()
    grammar = head["payload"][len(head["payload"]) - head["grammar_bytes"] :].decode()
    assert ('"{\\"name\\": \\"time\\", \\"arguments\\": "' in grammar) == held
    assert bool(grammar) == held
    house.say((slot, generation), CALLING[-62:], FinishReason.STOP)
    message = (await client.done()).json["choices"][0]["message"]
    assert bool(message.get("tool_calls")) == (choice != "none")


@pytest.mark.parametrize(
    ("function", "choice", "param"),
    [
        ({"strict": True, "parameters": {"type": "object", "not": {}}}, "required", "tools.1"),
        ({"strict": True, "parameters": {"type": "object", "not": {}}}, "auto", "tools.1"),
        ({"parameters": {"type": "object", "properties": {"a": {"type": "strin"}}}}, "required", "tools.1"),
    ],
)
async def test_what_no_grammar_can_hold_of_a_tool_is_refused_by_its_place(
    house: House, function: dict[str, Any], choice: str, param: str
) -> None:
    tools = [TOOLS[1], {"type": "function", "function": {"name": "bad", **function}}]
    refused = await house.chat(tools=tools, tool_choice=choice).done()
    assert (refused.status, refused.json["error"]["param"]) == (400, param)
