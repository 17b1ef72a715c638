"""OpenAI's SDK for Node, on a real server: over HTTP/1.1, and by undici over HTTP/2 in clear text and over TLS."""

from typing import Any

import pytest
from e2e_front import ENDLESS_TOKENS, Front
from e2e_node import told_by

WAYS = [("clear_front", "HTTP/1.1"), ("clear_front", "HTTP/2"), ("tls_front", "HTTP/1.1"), ("tls_front", "HTTP/2")]


@pytest.fixture(scope="module", params=WAYS, ids=lambda way: f"{way[1]} {way[0].removesuffix('_front')}")
def way(request: pytest.FixtureRequest) -> tuple[Front, str]:
    name, protocol = request.param
    return request.getfixturevalue(name), protocol


@pytest.fixture(scope="module")
def told(way: tuple[Front, str]) -> dict[str, Any]:
    """What the SDK made of the server's answers, by what was asked."""
    front, protocol = way
    return told_by("client.mjs", front.url, front.server.admin_url, protocol, cafile=front.cafile)


def test_node_speaks_what_it_was_told_to(told: dict[str, Any], way: tuple[Front, str]) -> None:
    assert set(told["versions"]) == {"h2" if way[1] == "HTTP/2" else "h1"}


def test_node_chats_streamed_and_whole(told: dict[str, Any]) -> None:
    assert told["chat"]["streamed"] == told["chat"]["whole"] == told["chat"]["gathered"] == told["afterwards"]
    assert told["chat"]["usage"]["completion_tokens"] == 6


def test_many_streams_of_node_at_once_say_the_same(told: dict[str, Any]) -> None:
    assert told["many"] == {"texts": 60, "different": 1}


def test_node_s_completions_of_several_prompts(told: dict[str, Any]) -> None:
    assert told["completions"]["indices"] == [0, 1]
    assert told["completions"]["streamed"] == told["completions"]["whole"]


def test_node_is_given_valid_arguments_of_a_function(told: dict[str, Any]) -> None:
    assert told["tools"]["name"] == "weather"
    assert told["tools"]["arguments"]["city"] in ("Oslo", "Rome")


def test_refusals_are_node_s_own_errors(told: dict[str, Any]) -> None:
    unknown, wrong = told["errors"]
    assert unknown == ["NotFoundError", "model_not_found", "model"]
    assert wrong == ["BadRequestError", "invalid_request_error", "temperature"]


def test_a_stream_that_node_aborts_is_computed_no_further_and_its_neighbour_is_whole(told: dict[str, Any]) -> None:
    # What had come when it aborted at the third chunk is told all the same.
    assert 3 <= told["aborted"]["chunks"] < ENDLESS_TOKENS / 10
    assert told["aborted"]["freed"]
    assert told["aborted"]["neighbour"]


def test_an_answer_that_node_waits_for_no_longer_is_computed_no_further(told: dict[str, Any]) -> None:
    assert told["timedOut"] == {"error": "APIConnectionTimeoutError", "freed": True}
