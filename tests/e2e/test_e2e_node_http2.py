"""node:http2, on a real server: what a client of frames can do that SDKs do not, and how a drain looks to it."""

from pathlib import Path
from typing import Any

import pytest
from e2e_front import Front
from e2e_node import told_by
from e2e_server import Server


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


def test_a_drain_ends_a_stream_whole_and_then_says_goodbye(wide_repository: Path, tmp_path: Path) -> None:
    with Server(wide_repository, tmp_path / "log") as server:
        told = told_by("drain.mjs", server.url, str(server.process.pid))
        assert server.process.wait(20) == 0
    assert told["text"].endswith("data: [DONE]\n\n")
    assert (told["errors"], told["rstCode"]) == ([], 0)
    assert told["goaways"][-1] == {"code": 0, "lastStream": 1, "whole": True}
