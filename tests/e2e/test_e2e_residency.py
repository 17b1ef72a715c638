"""Models that come with the first request and leave when nobody asks, in memory that is not enough for all of them."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from e2e_server import HEADERS, Server, completion, until

from aruntime.control.repository import publish

ON_DEMAND = '[residency]\nload = "on-demand"\nidle_s = 1.5\n[limits]\ncache_bytes = 4_194_304\n'


@pytest.fixture
def server(checkpoint: Path, tmp_path: Path) -> Iterator[Server]:
    """Two models on demand, and memory for one of them."""
    for model in ("tiny", "other"):
        publish(checkpoint, tmp_path / "repository", model)
        (tmp_path / "repository" / model / "model.toml").write_text(ON_DEMAND)
    with Server(tmp_path / "repository", tmp_path / "server.log", "--memory", "500M") as running:
        yield running


def ask(server: Server, model: str, **headers: str) -> httpx.Response:
    url = f"{server.url}/v1/completions"
    return httpx.post(url, json=completion(3, model=model, stream=False), headers=HEADERS | headers, timeout=60)


async def test_a_cold_model_answers_all_who_wait_with_one_load_and_leaves_when_it_is_idle(server: Server) -> None:
    assert server.engines() == []
    assert server.is_ready()
    replies = await asyncio.gather(*(asyncio.to_thread(ask, server, "tiny") for _ in range(6)))
    assert [reply.status_code for reply in replies] == [200] * 6
    assert len(server.engines()) == 1
    until(lambda: server.engines() == [])
    assert (await asyncio.to_thread(ask, server, "tiny")).status_code == 200


def test_one_makes_room_for_the_other(server: Server) -> None:
    assert ask(server, "tiny").status_code == 200
    first = server.engines()
    assert ask(server, "other").status_code == 200
    assert len(server.engines()) == 1
    assert server.engines() != first


def test_who_cannot_wait_so_long_is_told_in_time_and_who_leaves_is_forgotten(server: Server) -> None:
    late = ask(server, "tiny", **{"x-request-timeout-ms": "100"})
    assert (late.status_code, late.json()["error"]["code"]) == (504, "deadline_exceeded")
    assert late.elapsed.total_seconds() < 5
    until(lambda: server.engines() == [])
    with pytest.raises(httpx.ReadTimeout):
        httpx.post(f"{server.url}/v1/completions", json=completion(3, model="other", stream=False), timeout=0.3)
    until(lambda: server.metric("aruntime_requests_held") == 0, timeout_s=2)
