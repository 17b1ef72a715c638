"""Processes die, by accident and by order; nobody hangs, nothing is left."""

import itertools
import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from e2e_server import Server, completion, events, h2c, is_alive, sockets, until
from e2e_stream import Stream

from aruntime.control.repository import publish


@pytest.fixture(scope="module")
def pairs(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with two front ends and two engines."""
    folder = tmp_path_factory.mktemp("pairs")
    publish(checkpoint, folder / "repository", "tiny")
    (folder / "repository" / "tiny" / "model.toml").write_text("[limits]\nreplicas = 2\n[objectives]\nttft_s = 60.0\n")
    with Server(folder / "repository", folder / "log", "--workers", "2") as running:
        yield running


@pytest.fixture(scope="module")
def server(own_server: Server) -> Server:
    """Its processes are killed here."""
    return own_server


def test_a_killed_engine_is_an_error_event_within_a_second_and_comes_back(server: Server) -> None:
    stream = Stream(h2c(server.url))
    (engine,) = server.engines()
    killed_s = time.monotonic()
    os.kill(engine, signal.SIGKILL)
    last = json.loads(stream.last())
    assert time.monotonic() - killed_s < 1.0
    assert last["error"]["code"] == "model_error"
    refused = httpx.post(f"{server.url}/v1/completions", json=completion(3))
    assert (refused.status_code, refused.json()["error"]["code"]) == (503, "model_not_ready")
    assert not server.is_ready()
    until(server.is_ready, 60)
    assert server.engines() != [engine]
    assert httpx.post(f"{server.url}/v1/completions", json=completion(3, stream=False)).status_code == 200


def test_a_stopped_engine_is_seen_by_health(server: Server) -> None:
    (engine,) = server.engines()
    os.kill(engine, signal.SIGSTOP)
    try:
        until(lambda: httpx.get(f"{server.url}/health/engine").status_code == 503, 15)
        assert httpx.get(f"{server.url}/health/live").status_code == 200
    finally:
        os.kill(engine, signal.SIGCONT)
    until(server.is_ready)


def test_every_front_end_sends_to_every_engine(pairs: Server) -> None:
    for other in pairs.front_ends():
        os.kill(other, signal.SIGSTOP)  # so who connects now is not its
        try:
            streams = [Stream(h2c(pairs.url), 3000) for _ in range(2)]
            for replica in ("0", "1"):
                assert pairs.metric("aruntime_sequences_in_flight", replica=replica) == 1
        finally:
            os.kill(other, signal.SIGCONT)
        assert [stream.last() for stream in streams] == ["[DONE]", "[DONE]"]


def test_a_killed_front_end_harms_no_other_and_its_sequences_vanish(pairs: Server) -> None:
    """Stock Hypercorn 0.18 (`hypercorn --workers 2`) ends all its workers then, and exits with status 0."""
    at_rest = {pid: sockets(pid) for pid in pairs.front_ends()}
    protocols = itertools.cycle([h2c, lambda url: httpx.Client(base_url=url, timeout=30)])
    streams: list[Stream] = []
    while any(sockets(pid) < at_rest[pid] + 2 for pid in at_rest):  # until each front end has some
        streams.append(Stream(next(protocols)(pairs.url), 3000))
        assert len(streams) < 30
    killed, other = at_rest
    held = {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in pairs.engines()}
    os.kill(killed, signal.SIGKILL)
    until(lambda: len(pairs.front_ends()) == 2 and killed not in pairs.front_ends(), 30)
    assert other in pairs.front_ends()
    for stream in streams:
        stream.join(60)
    assert any(stream.broken for stream in streams)
    whole = [stream for stream in streams if not stream.broken]
    assert whole
    assert all(stream.last() == "[DONE]" for stream in whole)
    until(lambda: pairs.metric("aruntime_sequences_in_flight") == 0)
    until(lambda: pairs.metric("aruntime_blocks_free") == pairs.metric("aruntime_blocks"))
    until(lambda: {pid: len(os.listdir(f"/proc/{pid}/fd")) for pid in held} == held)
    for _ in range(4):
        assert httpx.post(f"{pairs.url}/v1/completions", json=completion(3, stream=False)).status_code == 200


def test_a_term_lets_the_stream_end_answers_503_meanwhile_and_leaves_nothing(repository: Path, tmp_path: Path) -> None:
    with Server(repository, tmp_path / "log") as server:
        processes = [*server.engines(), *server.front_ends()]
        stream = Stream(h2c(server.url), 3000)
        server.terminate()
        until(lambda: not server.is_ready())
        refused = httpx.post(f"{server.url}/v1/completions", json=completion(3))
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "draining")
        assert "retry-after" in refused.headers
        assert stream.last() == "[DONE]"
        assert len(events(stream.lines)) > 1000
        assert server.process.wait(15) == 0
        assert not any(is_alive(pid) for pid in processes)
    assert not [name for name in os.listdir("/dev/shm") if "aruntime" in name]


def test_a_stream_longer_than_the_drain_allows_ends_with_an_error_event(repository: Path, tmp_path: Path) -> None:
    with Server(repository, tmp_path / "log", "--drain-timeout", "0.5") as server:
        stream = Stream(h2c(server.url))
        server.terminate()
        assert json.loads(stream.last())["error"]["code"] == "draining"
        assert server.process.wait(15) == 0


def test_a_second_term_ends_at_once(repository: Path, tmp_path: Path) -> None:
    with Server(repository, tmp_path / "log") as server:
        processes = [*server.engines(), *server.front_ends()]
        stream = Stream(h2c(server.url))
        server.terminate()
        time.sleep(0.2)
        server.terminate()
        assert server.process.wait(10) == 0
        stream.join(10)
        assert not any(is_alive(pid) for pid in processes)


def test_nothing_outlives_a_killed_supervisor(repository: Path, tmp_path: Path) -> None:
    with Server(repository, tmp_path / "log") as server:
        processes = [*server.engines(), *server.front_ends()]
        assert len(processes) == 2
        server.process.kill()
        until(lambda: not any(is_alive(pid) for pid in processes), 5)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_version_that_is_not_as_published_is_never_served(checkpoint: Path, tmp_path: Path, file: str) -> None:
    version = publish(checkpoint, tmp_path / "repository", "tiny")
    (version.folder / file).write_text("{}")
    with pytest.raises(AssertionError, match=f"{file} is not the file that was published"):
        Server(tmp_path / "repository", tmp_path / "log")
