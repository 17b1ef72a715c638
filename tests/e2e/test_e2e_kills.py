"""kill -9 of the supervisor in whatever state a version or a rollout is: the next server goes on from what was written.

The moment is that of the line in the log that says the state, so the kill comes a few milliseconds into it.
"""

import json
import os
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from e2e_rollout import Operator, copy_demo
from e2e_server import Server, children, completion, events, h2c, is_alive, until

from aruntime.control.repository import publish

SETTINGS = """
[labels]
stable = 1
[limits]
cache_bytes = 8_388_608
[rollout]
window_s = 1000.0
steps = [0.5, 1.0]
"""
STATES = [
    "verified", "admitted", "loading", "warming", "probing", "standby", "serving", "draining", "unloading", "unloaded",
]  # fmt: skip


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    root = tmp_path / "repository"
    folder = copy_demo(tmp_path / "demo")
    for _ in range(2):
        publish(folder, root, "demo")
    (root / "demo" / "model.toml").write_text(SETTINGS)
    return root


class Killed:
    """A server on `repository` that is killed, and the one that comes after it on the same journal."""

    def __init__(self, repository: Path, log: Path) -> None:
        self._repository, self._log = repository, log
        self.server = Server(repository, log)
        self.operator = Operator(self.server)

    def says(self, *words: str) -> bool:
        """Whether a line of its log has all of these words."""
        return any(all(word in line for word in words) for line in self._log.read_text().splitlines())

    def kill(self) -> None:
        """kill -9, and see that nothing of it is left."""
        below = children(self.server.process.pid, "aruntime")
        self.server.process.send_signal(signal.SIGKILL)
        self.server.close()
        until(lambda: not any(map(is_alive, below)))

    def restart(self) -> Operator:
        """Start it again, on what it has written."""
        self.server = Server(self._repository, self._log)
        self.operator = Operator(self.server)
        return self.operator

    def close(self) -> None:
        self.server.__exit__(None, None, None)


@pytest.fixture
def killed(repository: Path, tmp_path: Path) -> "Killed":  # type: ignore[misc]
    made = Killed(repository, tmp_path / "server.log")
    yield made  # type: ignore[misc]
    made.close()


def beside(work: Callable[[], object]) -> None:
    """Do something that may fail with the server under it."""

    def attempt() -> None:
        try:
            work()
        except httpx.HTTPError:
            return

    threading.Thread(target=attempt, daemon=True).start()


def answers(server: Server, model: str) -> str:
    reply = httpx.post(f"{server.url}/v1/completions", json=completion(2, model=model, stream=False), timeout=30)
    return reply.headers.get("x-model-version", "") if reply.status_code == 200 else str(reply.status_code)


@pytest.mark.slow
@pytest.mark.parametrize("state", STATES)
def test_a_server_killed_while_a_version_is_in_any_state_comes_back_with_what_was_stable(
    killed: Killed, state: str
) -> None:
    operator = killed.operator
    if state != "verified":
        until(lambda: operator.state(2) == "verified")
        beside(lambda: operator.act("POST", "/load", version=2))
    if state in ("serving", "draining", "unloading", "unloaded"):
        until(lambda: operator.state(2) == "standby")
        assert operator.act("PUT", "/labels/next", version=2).status_code == 200
    if state in ("draining", "unloading", "unloaded"):
        if state == "draining":  # it lasts as long as this stream
            beside(lambda: httpx.post(f"{killed.server.url}/v1/completions", json=completion(3000, model="demo@2")))
            until(lambda: operator.model()["versions"][1]["in_flight"] == 1)
        beside(lambda: operator.act("POST", "/unload", version=2))
    until(lambda: killed.says("version.is", "version=2", f"state={state}"))
    killed.kill()
    operator = killed.restart()
    labelled = state in ("serving", "draining", "unloading", "unloaded")
    assert operator.model()["labels"] == ({"stable": 1, "next": 2} if labelled else {"stable": 1})
    assert answers(killed.server, "demo") == "demo@1"
    assert operator.state(2) in (("serving",) if labelled else ("verified", "unloaded", "discovered"))
    assert operator.act("POST", "/load", version=2).status_code == 200
    assert answers(killed.server, "demo@2") == "demo@2"


def test_a_server_killed_while_it_verifies_what_was_published_comes_back_and_verifies_it(
    killed: Killed, repository: Path, tmp_path: Path
) -> None:
    publish(copy_demo(tmp_path / "third"), repository, "demo")
    until(lambda: killed.says("version.discovered", "version=3"))
    killed.kill()
    operator = killed.restart()
    until(lambda: operator.state(3) == "verified")
    assert operator.model()["labels"] == {"stable": 1}
    assert answers(killed.server, "demo") == "demo@1"


@pytest.mark.parametrize(("to", "end", "stable"), [("promote", "complete", 2), ("roll-back", "rolled_back", 1)])
def test_a_server_killed_when_a_rollout_has_just_ended_comes_back_with_its_end(
    killed: Killed, to: str, end: str, stable: int
) -> None:
    operator = killed.operator
    assert operator.act("POST", "/rollout", version=2).status_code == 200
    until(lambda: operator.stage() == "shadow")
    for _ in range(3):
        assert operator.act("POST", "/rollout/promote").status_code == 200
    assert operator.act("POST", f"/rollout/{to}").json()["rollout"]["stage"] == end
    killed.kill()
    operator = killed.restart()
    assert operator.model()["labels"] == {"stable": stable}
    assert operator.model()["rollout"] is None
    assert answers(killed.server, "demo") == f"demo@{stable}"
    assert len(killed.server.engines()) == 1


@pytest.mark.slow
@pytest.mark.parametrize("stage", ["preparing", "shadow", "canary", "paused", "bake"])
def test_a_rollout_goes_on_from_its_stage_when_its_server_was_killed(killed: Killed, stage: str) -> None:
    operator = killed.operator
    until(lambda: operator.state(2) == "verified")
    assert operator.act("POST", "/rollout", version=2).status_code == 200
    if stage != "preparing":
        until(lambda: operator.stage() == "shadow")
        for _ in range({"canary": 1, "paused": 1, "bake": 3}.get(stage, 0)):
            assert operator.act("POST", "/rollout/promote").status_code == 200
        if stage == "paused":
            assert operator.act("POST", "/rollout/pause").status_code == 200
    killed.kill()
    operator = killed.restart()
    reached = {"preparing": "shadow", "paused": "canary"}.get(stage, stage)
    until(lambda: operator.stage() == reached and operator.state(2) == "serving")
    rollout = operator.model()["rollout"]
    assert rollout["paused"] == (stage == "paused")
    assert rollout["share"] == {"shadow": 0.0, "canary": 0.5, "bake": 1.0}[reached]
    assert operator.model()["labels"] == {"stable": 1, "canary": 2}
    assert operator.act("POST", "/rollout/roll-back").status_code == 200
    until(lambda: operator.stage() == "" and operator.state(2) == "unloaded")
    assert answers(killed.server, "demo") == "demo@1"


@pytest.mark.slow
def test_requests_fall_back_while_a_candidate_is_dead_and_too_many_deaths_send_it_back(killed: Killed) -> None:
    operator, server = killed.operator, killed.server
    until(lambda: operator.state(2) == "verified")
    assert operator.act("POST", "/rollout", version=2).status_code == 200
    until(lambda: operator.stage() == "shadow")
    for _ in range(2):
        operator.act("POST", "/rollout/promote")
    assert answers(server, "demo") == "demo@2"
    for deaths in (1, 2, 3):
        until(lambda: operator.model()["versions"][1]["replicas"][0]["life"] == "ready")
        newest = server.engines()[-1]
        with (
            h2c(server.url) as client,
            client.stream("POST", "/v1/completions", json=completion(3000, model="demo@2")) as answer,
        ):
            lines = answer.iter_lines()
            received = [next(lines)]
            os.kill(newest, signal.SIGKILL)
            received += lines  # it ends: whoever was on that engine is told, and does not hang
        assert json.loads(events(received)[-1])["error"]["code"] == "model_error"
        until(lambda pid=newest: not is_alive(pid))  # type: ignore[misc]
        until(lambda: answers(server, "demo") == "demo@1")
        if deaths < 3:
            assert operator.stage() == "canary"
    until(lambda: operator.stage() == "" and operator.state(2) == "unloaded")
    assert operator.ends(2)[-1] == "rolled back"
    assert "died 3 times" in operator.audit()[-1]["detail"]


def test_a_prober_that_is_killed_is_started_again_and_the_version_becomes_ready(killed: Killed) -> None:
    operator, server = killed.operator, killed.server
    beside(lambda: operator.act("POST", "/load", version=2))
    until(server.probers)
    os.kill(server.probers()[0], signal.SIGKILL)
    until(lambda: operator.state(2) == "standby")
    assert killed.says("probe.failed", "the prober was killed by signal 9")
    assert answers(server, "demo@2") == "demo@2"


@pytest.mark.slow
def test_a_front_end_that_is_killed_in_a_rollout_comes_back_into_it(killed: Killed) -> None:
    operator, server = killed.operator, killed.server
    until(lambda: operator.state(2) == "verified")
    assert operator.act("POST", "/rollout", version=2).status_code == 200
    until(lambda: operator.stage() == "shadow")
    for _ in range(2):
        operator.act("POST", "/rollout/promote")
    (front_end,) = server.front_ends()
    os.kill(front_end, signal.SIGKILL)
    until(lambda: server.front_ends() not in ([], [front_end]) and server.is_ready())
    time.sleep(0.1)
    assert answers(server, "demo") == "demo@2"
    assert operator.stage() == "canary"
