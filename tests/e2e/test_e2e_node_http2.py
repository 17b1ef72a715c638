"""node:http2, on a real server: what a client of frames can do that SDKs do not."""

from typing import Any

import pytest
from e2e_front import Front
from e2e_node import told_by


@pytest.fixture(scope="module", params=["clear", "tls"])
def told(request: pytest.FixtureRequest) -> dict[str, Any]:
    """What it made of the server's streams, by what was asked."""
    front: Front = request.getfixturevalue(f"{request.param}_front")
    return told_by("http2.mjs", front.url, front.server.admin_url, cafile=front.cafile)


def test_a_hundred_streams_of_node_at_once_say_the_same(told: dict[str, Any]) -> None:
    assert told["many"] == {"texts": 100, "different": 1}


def test_more_streams_than_a_connection_may_have_wait_for_their_turn_with_the_client(told: dict[str, Any]) -> None:
    assert told["beyond"] == {"texts": 700, "different": 1}


def test_streams_that_node_resets_are_computed_no_further_and_the_others_are_whole(told: dict[str, Any]) -> None:
    assert told["resets"] == {"codes": [8], "different": 1, "freed": True}  # CANCEL, as it said itself


def test_a_reader_that_pauses_is_waited_for_and_has_every_token_once(told: dict[str, Any]) -> None:
    assert told["pauses"] == {"held": True, "same": True, "other": True}
