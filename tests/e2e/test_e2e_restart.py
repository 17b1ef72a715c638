"""The front ends of a running server are replaced one by one, and no client notices."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from e2e_server import Server, completion, events, h2c, sockets, until
from e2e_stream import Stream

from aruntime.cli.main import main
from aruntime.control.repository import publish

TOKENS = 2000
PATIENT = "[objectives]\nttft_s = 60.0\n"  # however slow the machine is, nobody is refused for that


class Asker(threading.Thread):
    """Asks again and again, with clients that `connect` makes, each for so many requests; stops at the first error."""

    def __init__(self, connect: Callable[[], httpx.Client], requests: int) -> None:
        super().__init__(daemon=True)
        self.answered, self.error = 0, ""
        self._connect, self._requests = connect, requests
        self._over = threading.Event()
        self.start()

    def run(self) -> None:
        try:
            while not self._over.is_set():
                with self._connect() as client:
                    for _ in range(self._requests):
                        self._ask(client)
        except (httpx.HTTPError, AssertionError) as error:
            self.error = repr(error)

    def _ask(self, client: httpx.Client) -> None:
        if not self._over.is_set():
            answer = client.post("/v1/completions", json=completion(3, stream=False))
            assert answer.status_code == 200, answer.text
            self.answered += 1
            time.sleep(0.005)

    def stop(self) -> None:
        """Let it end, and see how it went."""
        self._over.set()
        self.join(30)
        assert (self.error, self.is_alive()) == ("", False)
        assert self.answered > 20


def test_a_restart_of_the_front_ends_is_noticed_by_nobody(
    checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    publish(checkpoint, tmp_path / "repository", "tiny")
    (tmp_path / "repository" / "tiny" / "model.toml").write_text(PATIENT)
    with Server(tmp_path / "repository", tmp_path / "log", "--workers", "2") as server:

        def http1() -> httpx.Client:
            return httpx.Client(base_url=server.url, timeout=30)

        def http2() -> httpx.Client:
            return h2c(server.url)

        at_rest = {pid: sockets(pid) for pid in server.front_ends()}
        streams: list[Stream] = []
        while len(streams) < 4 or any(sockets(pid) == at_rest[pid] for pid in at_rest):
            streams.append(Stream((http1, http2)[len(streams) % 2](), TOKENS))
            assert len(streams) < 30
        askers = [Asker(connect, requests) for connect in (http1, http2) for requests in (1, 10_000)]

        assert main(["front-ends", "restart", "--admin", server.admin_url]) == 0
        assert capsys.readouterr().out.splitlines()[-1] == "2 of 2 replaced"
        assert len(server.front_ends()) == 2
        assert not set(at_rest) & set(server.front_ends())
        for asker in askers:
            asker.stop()
        for stream in streams:
            assert stream.last() == "[DONE]"
            assert not stream.broken
            assert len(events(stream.lines)) > TOKENS / 4

        assert main(["front-ends", "status", "--admin", server.admin_url]) == 0
        told = capsys.readouterr().out
        assert told.count("serving") == 2
        assert told.endswith("the last restart: 2 of 2 replaced\n")

        until(lambda: server.metric("aruntime_sequences_in_flight") == 0)
        until(lambda: server.metric("aruntime_blocks_free") == server.metric("aruntime_blocks"))
        assert main(["audit", "--json", "--limit", "2", "--admin", server.admin_url]) == 0
        ended, begun = (json.loads(line) for line in capsys.readouterr().out.splitlines())
        assert (begun["action"], begun["outcome"]) == ("restart-front-ends", "done")
        assert (ended["action"], ended["outcome"], ended["detail"]) == ("restart", "done", "2 of 2")
