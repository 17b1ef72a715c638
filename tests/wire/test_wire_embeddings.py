"""What a request for vectors may say, and how they are written."""

import base64
import json
import math

import numpy as np
import pytest

from aruntime.base.errors import InvalidRequest
from aruntime.wire.embeddings import INPUTS_MAX, parse_embedding, write_embeddings


def body(**fields: object) -> bytes:
    return json.dumps({"model": "demo", "input": "hi", **fields}).encode()


def vector(*numbers: float) -> bytes:
    return np.array(numbers, "<f4").tobytes()


@pytest.mark.parametrize(
    ("given", "inputs"),
    [
        ("a", [("input", "a")]),
        ([1, 2], [("input", [1, 2])]),
        (["a", "b"], [("input.0", "a"), ("input.1", "b")]),
        ([[1], "b"], [("input.0", [1]), ("input.1", "b")]),
    ],
)
def test_an_input_is_a_text_ids_or_several_of_both(given: object, inputs: list[tuple[str, object]]) -> None:
    assert parse_embedding(body(input=given)).inputs == inputs


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": ""}, "input"),
        ({"input": []}, "input"),
        ({"input": ["a", ""]}, "input.1"),
        ({"input": ["a", []]}, "input.1"),
        ({"input": ["a", 1]}, "input.1"),
        ({"input": [1, "a"]}, "input.1"),
        ({"input": [[1], [True]]}, "input.1.0"),
        ({"input": [1, -1]}, "input.1"),
        ({"input": ["a"] * (INPUTS_MAX + 1)}, "input"),
        ({"input": {"a": 1}}, "input"),
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": True}, "dimensions"),
        ({"encoding_format": "int8"}, "encoding_format"),
        ({"truncate_prompt_tokens": 3}, "truncate_prompt_tokens"),
        ({"normalize": False}, "normalize"),
        ({"messages": []}, "messages"),
        ({"colour": 1}, "colour"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, object], param: str) -> None:
    with pytest.raises(InvalidRequest) as error:
        parse_embedding(body(**fields))
    assert error.value.param == param


def test_vectors_are_cut_before_they_are_made_1_long() -> None:
    answer = json.loads(write_embeddings(parse_embedding(body(dimensions=2)), [vector(3, 4, 12), vector(0, -2, 1)], 7))
    assert answer == {
        "object": "list",
        "data": [
            {"object": "embedding", "index": 0, "embedding": [0.6, 0.8]},
            {"object": "embedding", "index": 1, "embedding": [0.0, -1.0]},
        ],
        "model": "demo",
        "usage": {"prompt_tokens": 7, "total_tokens": 7},
    }


def test_base64_holds_the_very_numbers_of_the_list() -> None:
    vectors = [np.random.default_rng(1).normal(size=100).astype("<f4").tobytes()]
    lists, coded = (
        json.loads(write_embeddings(parse_embedding(body(encoding_format=one)), vectors, 1))["data"][0]["embedding"]
        for one in ("float", "base64")
    )
    assert np.array_equal(np.frombuffer(base64.b64decode(coded), "<f4"), np.array(lists, "<f4"))
    assert math.isclose(sum(number * number for number in lists), 1, rel_tol=1e-5)


@pytest.mark.parametrize("broken", [(0.0, 0.0), (1.0, float("nan")), (float("inf"), 1.0)])
def test_what_has_no_direction_is_no_vector(broken: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="0 or not finite"):
        write_embeddings(parse_embedding(body()), [vector(1, 1), vector(*broken)], 2)
