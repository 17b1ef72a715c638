"""/openapi.json: whole in itself, and its examples are what the bodies take."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from aruntime.wire.body import check
from aruntime.wire.openapi import OPERATIONS, Operation, document


def refs(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from [value["$ref"]] if "$ref" in value else []
        value = list(value.values())
    for item in value if isinstance(value, list) else ():
        yield from refs(item)


def test_every_reference_leads_to_a_schema() -> None:
    made = json.loads(document())
    schemas = {f"#/components/schemas/{name}" for name in made["components"]["schemas"]}
    assert set(refs(made)) <= schemas
    assert len(schemas) > len(OPERATIONS)


def test_a_body_s_schema_knows_the_served_fields_and_no_other() -> None:
    schema = json.loads(document())["components"]["schemas"]["ChatBody"]
    assert schema["additionalProperties"] is False
    assert {"messages", "model", "temperature"} <= set(schema["properties"])
    assert "web_search_options" not in schema["properties"]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda one: one.path)
def test_an_example_is_taken(operation: Operation) -> None:
    check({"model": "demo", **operation.example}, operation.bodies[0])
