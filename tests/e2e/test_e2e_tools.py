"""Tools on a real server, with the openai package: a model of random weights, which knows no tools, calls them."""

import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

import openai
import pydantic
import pytest
from e2e_server import Server

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "unit": {"enum": ["C", "F"]},
        "days": {"type": "array", "items": {"type": "boolean"}, "maxItems": 3},
    },
    "required": ["city", "unit"],
    "additionalProperties": False,
}
TOOLS: list[Any] = [
    {"type": "function", "function": {"name": "weather", "parameters": SCHEMA, "strict": True}},
    {"type": "function", "function": {"name": "time", "parameters": {"type": "object", "additionalProperties": False}}},
]
WEATHER = {"type": "function", "function": {"name": "weather"}}


HI: list[Any] = [{"role": "user", "content": "weather?"}]


class Forecast(pydantic.BaseModel):
    """What the SDK makes a strict tool of."""

    city: Annotated[str, pydantic.Field(max_length=12)]
    rain: bool
    unit: Literal["C", "F"] | None


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(api_key="none", base_url=f"{server.url}/v1", max_retries=0, timeout=60) as made:
        yield made


@pytest.fixture(scope="module")
def create(client: openai.OpenAI) -> Any:
    """The SDK's `create` with tools; the answer."""

    def chat(**fields: Any) -> Any:
        return client.chat.completions.create(**{"model": "tiny", "messages": HI, "tools": TOOLS, **fields})

    return chat


def check(arguments: str) -> None:
    """The arguments of `weather` are as its schema says."""
    said = json.loads(arguments)
    assert said.keys() <= SCHEMA["properties"].keys()  # type: ignore[attr-defined]
    assert len(said["city"]) <= 12
    assert said["unit"] in ("C", "F")
    assert all(isinstance(day, bool) for day in said.get("days", []))


@pytest.mark.parametrize("seed", range(3))
def test_a_named_call_has_arguments_as_its_schema_says(create: Any, seed: int) -> None:
    answer = create(tool_choice=WEATHER, seed=seed, max_tokens=400).choices[0]
    assert (answer.finish_reason, answer.message.content) == ("tool_calls", None)
    (call,) = answer.message.tool_calls
    assert call.function.name == "weather"
    check(call.function.arguments)


def test_choices_of_a_required_call_are_calls_each(create: Any) -> None:
    answer = create(tool_choice="required", parallel_tool_calls=False, n=3, seed=1, max_tokens=400)
    for choice in answer.choices:
        (call,) = choice.message.tool_calls
        if call.function.name == "weather":
            check(call.function.arguments)
        else:
            assert (call.function.name, json.loads(call.function.arguments)) == ("time", {})


def test_streamed_deltas_of_a_call_concatenate_to_valid_arguments(create: Any) -> None:
    stream = create(tool_choice=WEATHER, seed=5, max_tokens=400, stream=True)
    choices = [chunk.choices[0] for chunk in stream]
    pieces = [piece for choice in choices for piece in choice.delta.tool_calls or ()]
    assert len(pieces) > 5
    assert [(piece.index, piece.function.name) for piece in pieces if piece.id] == [(0, "weather")]
    check("".join(piece.function.arguments for piece in pieces))
    assert not any(choice.delta.content for choice in choices)
    assert [choice.finish_reason for choice in choices if choice.finish_reason] == ["tool_calls"]


def test_a_result_is_fed_back_and_the_conversation_goes_on(create: Any) -> None:
    asked: list[Any] = [{"role": "user", "content": "weather?"}]
    first = create(messages=asked, tool_choice=WEATHER, seed=2, max_tokens=400).choices[0].message
    asked += [first, {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": "22"}]
    second = create(messages=asked, tool_choice="none", max_tokens=8, extra_body={"ignore_eos": True})
    assert second.choices[0].finish_reason == "length"
    assert second.choices[0].message.tool_calls is None
    third = create(messages=asked, tool_choice=WEATHER, seed=3, max_tokens=400).choices[0].message
    check(third.tool_calls[0].function.arguments)


def test_the_sdk_parses_the_arguments_of_its_own_tools(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {
        "model": "tiny",
        "messages": HI,
        "tools": [openai.pydantic_function_tool(Forecast)],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        "max_tokens": 400,
    }
    (call,) = client.chat.completions.parse(**asked, seed=6).choices[0].message.tool_calls or ()
    assert isinstance(call.function.parsed_arguments, Forecast)
    with client.chat.completions.stream(**asked, seed=7) as stream:
        kinds = {event.type for event in stream}
    assert {"tool_calls.function.arguments.delta", "tool_calls.function.arguments.done"} <= kinds
    (call,) = stream.get_final_completion().choices[0].message.tool_calls or ()
    assert isinstance(call.function.parsed_arguments, Forecast)


def test_a_strict_tool_leaves_text_free(create: Any) -> None:
    answer = create(seed=4, max_tokens=8).choices[0]
    assert (answer.finish_reason, answer.message.tool_calls) == ("length", None)
