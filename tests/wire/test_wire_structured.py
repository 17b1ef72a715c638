"""The fields that say what an answer looks like: what they become, and which of them a refusal names."""

import json
from typing import Any

import pytest

from aruntime.base.errors import InvalidRequest
from aruntime.wire.body import parse
from aruntime.wire.grammars import Constraint, Json, choice_grammar, pieces_grammar, regex_grammar
from aruntime.wire.structured import StructuredFields

OBJECT = {"type": "object", "properties": {"a": {"type": "integer"}}}
SCHEMA = {"name": "answer", "schema": OBJECT, "strict": True}


def constraint(**fields: Any) -> Constraint | None:
    return parse(json.dumps(fields).encode(), StructuredFields).constraint


def schema_in(grammar: str) -> Any:
    head, _, text = grammar.partition("%json ")
    assert head == "start: "
    schema = json.loads(text)
    guidance = schema.pop("x-guidance")
    return schema, guidance["lenient"]


@pytest.mark.parametrize(
    ("fields", "field", "schema", "lenient"),
    [
        ({"response_format": {"type": "json_object"}}, "response_format", {"type": "object"}, False),
        (
            {"response_format": {"type": "json_schema", "json_schema": SCHEMA}},
            "response_format.json_schema.schema",
            OBJECT,
            False,
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": OBJECT}}},
            "response_format.json_schema.schema",
            OBJECT,
            True,
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}},
            "response_format.json_schema.schema",
            {"type": "object"},
            True,
        ),
        ({"structured_outputs": {"json": OBJECT}}, "structured_outputs.json", OBJECT, False),
        ({"structured_outputs": {"json_object": True}}, "structured_outputs.json_object", {"type": "object"}, False),
        ({"guided_json": OBJECT}, "guided_json", OBJECT, False),
        ({"guided_json": json.dumps(OBJECT)}, "guided_json", OBJECT, False),
        ({"guided_json": True}, "guided_json", {}, False),
    ],
)
def test_json_is_a_schema_in_a_grammar(fields: dict[str, Any], field: str, schema: Any, lenient: bool) -> None:
    found = constraint(**fields)
    assert found is not None
    assert found.field == field
    assert schema_in(found.grammar) == (schema, lenient)


def test_a_regex_choices_and_a_grammar_are_grammars_too() -> None:
    assert constraint(guided_regex="a/b") == Constraint(r"start: /a\/b/", "guided_regex")
    assert constraint(structured_outputs={"choice": ["a", "b"]}) == Constraint(
        'start: CHOICE\nCHOICE: "a" | "b"', "structured_outputs.choice"
    )
    assert constraint(guided_grammar='start: "a"') == Constraint('start: "a"', "guided_grammar")


@pytest.mark.parametrize("fields", [{}, {"response_format": {"type": "text"}}, {"guided_json": None}])
def test_without_any_of_them_anything_may_be_said(fields: dict[str, Any]) -> None:
    assert constraint(**fields) is None


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"response_format": {"type": "xml"}}, "response_format"),
        ({"response_format": {}}, "response_format"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "json_schema"}}, "response_format.json_schema"),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}},
            "response_format.json_schema.name",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a b"}}},
            "response_format.json_schema.name",
        ),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "a", "schema": 3}}},
            "response_format.json_schema.schema",
        ),
        ({"structured_outputs": {}}, "structured_outputs"),
        ({"structured_outputs": {"regex": "a", "choice": ["a"]}}, "structured_outputs"),
        ({"structured_outputs": {"structural_tag": "a"}}, "structured_outputs.structural_tag"),
        ({"structured_outputs": {"choice": []}}, "structured_outputs.choice"),
        ({"guided_choice": ["a"] * 1001}, "guided_choice"),
        ({"guided_choice": ["a" * 7000] * 10}, "guided_choice"),
        ({"guided_regex": ""}, "guided_regex"),
        ({"guided_regex": "a\\"}, "guided_regex"),
        ({"guided_regex": "a" * 8193}, "guided_regex"),
        ({"guided_grammar": "a" * 65537}, "guided_grammar"),
        ({"guided_grammar": "ä" * 40_000}, "guided_grammar"),
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_json": [1]}, "guided_json"),
        ({"guided_json": {"enum": ["a" * 70_000]}}, "guided_json"),
        ({"guided_json": json.loads('{"items":' * 101 + "1" + "}" * 101)}, "guided_json"),
        # only one of them
        ({"guided_regex": "a", "guided_choice": ["a"]}, "guided_choice"),
        ({"guided_regex": "a", "response_format": {"type": "json_object"}}, "response_format"),
    ],
)
def test_a_refusal_names_the_field(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        constraint(**fields)
    assert caught.value.param == param


def test_a_client_cannot_turn_off_what_bounds_whitespace() -> None:
    found = constraint(guided_json={"x-guidance": {"whitespace_flexible": True, "lenient": True}})
    assert found is not None
    assert "whitespace_flexible" not in found.grammar
    assert schema_in(found.grammar) == ({}, False)


def test_what_is_written_into_a_grammar_cannot_leave_its_place() -> None:
    assert regex_grammar(r"\\/a\/") == r"start: /\\\/a\//"
    assert choice_grammar(['a"\n"b']) == 'start: CHOICE\nCHOICE: "a\\"\\n\\"b"'


def test_pieces_are_texts_around_json_once_or_many_times() -> None:
    rows = [['{"name": "x", "arguments": ', Json({"type": "object"}), "}"], ["nothing"]]
    once, many = pieces_grammar(rows), pieces_grammar(rows, before="<", between=",", after=">", repeated=True)
    assert once.splitlines()[:2] == ['start: "" row ""', "row: row_0 | row_1"]
    assert many.splitlines()[0] == 'start: "<" row ("," row)* ">"'
    assert many.splitlines()[3] == 'row_1: "nothing"'
