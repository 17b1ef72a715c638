"""Structured output of the bundled demo model over real HTTP: the openai package, and every other way to ask."""

import json
import re
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import openai
import pytest
from e2e_server import Server
from pydantic import BaseModel, Field

REPOSITORY = Path(__file__).parent.parent.parent / "examples" / "repository"
ASKED: Any = [{"role": "user", "content": "Tell me of a city and its weather, as JSON."}]
BOMBS = [
    {"guided_json": json.loads('{"items":' * 90 + "{}" + "}" * 90), "guided_regex": "a"},
    {"guided_json": {"allOf": [{"anyOf": [{"properties": {f"{x}{i}": {}}} for x in "ab"]} for i in range(24)]}},
    {"guided_json": {"$ref": "#"}},
    {"guided_json": {"type": "number", "multipleOf": 0.000001234567}},
    {"guided_regex": "((a{1,100}){1,100}){1,100}"},
    {"guided_regex": "(" * 4000 + "a" + ")" * 4000},
    {"guided_grammar": "start: A\nA: B\nB: A\n"},
    {"guided_grammar": "start: A\nA: ~/(.*a.{12}){4}/ & ~/(.*b.{12}){4}/\n"},
]


class Weather(BaseModel):
    """What the model is made to say."""

    city: str = Field(max_length=20)
    sky: Literal["clear", "cloudy", "rain"]
    degrees: int = Field(ge=-60, le=60)


class Step(BaseModel):
    """A part of a proof."""

    claim: str = Field(max_length=15)
    follows: bool


class Proof(BaseModel):
    """Objects in a list."""

    steps: list[Step] = Field(min_length=1, max_length=2)
    holds: bool | None


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(REPOSITORY, tmp_path_factory.mktemp("e2e") / "structured.log") as running:
        yield running


@pytest.fixture(scope="module")
def client(demo: Server) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{demo.url}/v1", api_key="none", max_retries=0) as made:
        yield made


def said(client: openai.OpenAI, **fields: Any) -> tuple[str | None, str]:
    (choice,) = client.chat.completions.create(model="demo", messages=ASKED, max_tokens=200, **fields).choices
    return choice.message.content, choice.finish_reason


@pytest.mark.parametrize("temperature", [0, 1])
@pytest.mark.parametrize("kind", [Weather, Proof])
def test_the_package_parses_what_its_own_classes_ask_for(
    client: openai.OpenAI, kind: type[BaseModel], temperature: float
) -> None:
    answer = client.chat.completions.parse(
        model="demo", messages=ASKED, response_format=kind, temperature=temperature, seed=5, max_tokens=400
    )
    (choice,) = answer.choices
    assert choice.finish_reason == "stop"
    assert isinstance(choice.message.parsed, kind)


def test_a_stream_of_two_choices_holds_two_values_and_logprobs_of_what_was_allowed(client: openai.OpenAI) -> None:
    weather = {**Weather.model_json_schema(), "additionalProperties": False}
    schema = {"type": "json_schema", "json_schema": {"name": "w", "schema": weather}}
    texts = {0: "", 1: ""}
    stream = client.chat.completions.create(  # type: ignore[call-overload]
        model="demo", messages=ASKED, response_format=schema, n=2, stream=True, logprobs=True, top_logprobs=2
    )
    for chunk in stream:
        for choice in chunk.choices:
            texts[choice.index] += choice.delta.content or ""
            for token in choice.logprobs.content if choice.logprobs else ():
                assert token.logprob <= 0
    for text in texts.values():
        Weather.model_validate_json(text)


def test_json_object_is_any_object(client: openai.OpenAI) -> None:
    text, finish = said(client, response_format={"type": "json_object"}, temperature=0)
    assert text is not None
    assert text.startswith("{")
    assert finish == "length" or isinstance(json.loads(text), dict)


@pytest.mark.parametrize("way", ["guided_{}", "structured_outputs"])
def test_vllms_fields_are_served_under_both_names(client: openai.OpenAI, way: str) -> None:
    asks = {
        "json": (
            {"type": "array", "items": {"type": "integer", "maximum": 99, "minimum": 0}, "minItems": 2, "maxItems": 2},
            None,
        ),
        "regex": (r"[A-Z]{2}/\d{3}", r"[A-Z]{2}/\d{3}"),
        "choice": (["yes", "no"], "yes|no"),
        "grammar": ('start: DIGIT ("+" DIGIT)~3\nDIGIT: /[0-9]/', r"\d(\+\d){3}"),
    }
    for name, (value, pattern) in asks.items():
        extra = {way.format(name): value} if "{}" in way else {way: {name: value}}
        text, finish = said(client, extra_body=extra)
        assert text is not None
        assert finish == "stop"
        assert re.fullmatch(pattern, text) if pattern else len(json.loads(text)) == 2


def test_completions_are_constrained_too(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model="demo", prompt=["It is", "Is it?"], n=2, extra_body={"guided_choice": ["red", "green"]}
    )
    assert {choice.text for choice in answer.choices} <= {"red", "green"}


def test_an_answer_that_is_cut_in_the_middle_says_so(client: openai.OpenAI) -> None:
    text, finish = said(client, extra_body={"guided_regex": "a{500}"})
    assert finish == "length"
    assert text is not None
    assert re.fullmatch("a{200,499}", text)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "what"}}}},
            "response_format.json_schema.schema",
        ),
        ({"guided_json": {"not": {}}}, "guided_json"),
        ({"guided_regex": "("}, "guided_regex"),
        ({"structured_outputs": {"grammar": "start: nobody"}}, "structured_outputs.grammar"),
        ({"guided_regex": "a", "ignore_eos": True}, "ignore_eos"),
        ({"guided_regex": "a", "min_tokens": 1}, "min_tokens"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_the_name_of_its_field(
    client: openai.OpenAI, fields: dict[str, Any], param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        said(client, extra_body=fields)
    assert caught.value.param == param


def test_bombs_end_themselves_while_a_neighbours_answer_is_what_it_was(client: openai.OpenAI) -> None:
    asked: dict[str, Any] = {"model": "demo", "messages": ASKED, "temperature": 1, "seed": 3, "max_tokens": 120}
    alone = client.chat.completions.create(**asked).choices[0].message.content
    beside: list[str | None] = []
    neighbour = threading.Thread(
        target=lambda: beside.extend(client.chat.completions.create(**asked).choices[0].message.content for _ in "12")
    )
    neighbour.start()
    for bomb in BOMBS:
        started_s = time.perf_counter()
        with suppress(openai.BadRequestError, openai.InternalServerError):
            said(client, extra_body=bomb)
        assert time.perf_counter() - started_s < 10  # against hanging; it is milliseconds
    neighbour.join()
    assert beside == [alone, alone]
