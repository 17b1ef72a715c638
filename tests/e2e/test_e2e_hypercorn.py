"""Plain hypercorn serves too: its workers find or start one supervisor, which ends with the last of them."""

import os
import signal
from pathlib import Path

import httpx
import pytest
from e2e_hypercorn import Hypercorn, command, hypercorn, processes
from e2e_server import completion, events, h2c, is_alive, until


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_share_one_supervisor_that_ends_with_them(repository: Path, tmp_path: Path, workers: int) -> None:
    with hypercorn(repository, tmp_path, workers) as running:
        with h2c(running.url) as client:
            answer = client.post("/v1/completions", json=completion(20))
        assert events(answer.text.splitlines())[-1] == "[DONE]"
        (supervisor,) = running.supervisors()
        engines = [pid for pid in processes() if f"child {supervisor} aruntime.engine.main" in command(pid)]
        assert len(engines) == 1
        running.terminate()
        until(lambda: not is_alive(supervisor) and not is_alive(engines[0]), 15)
        assert os.listdir(tmp_path / "run" / "aruntime") == []


def test_a_lost_supervisor_is_started_again(repository: Path, tmp_path: Path) -> None:
    with hypercorn(repository, tmp_path, 2) as running:
        (lost,) = running.supervisors()
        os.kill(lost, signal.SIGKILL)
        until(lambda: not is_alive(lost))
        until(lambda: running.supervisors() and running.is_up(), 60)
        assert len(running.supervisors()) == 1
        answer = httpx.post(f"{running.url}/v1/completions", json=completion(3, stream=False))
        assert answer.status_code == 200


def test_nothing_outlives_killed_workers(repository: Path, tmp_path: Path) -> None:
    with hypercorn(repository, tmp_path, 2) as running:
        (supervisor,) = running.supervisors()
        os.killpg(running.process.pid, signal.SIGKILL)
        until(lambda: not is_alive(supervisor), 15)


def test_a_repository_that_cannot_be_served_is_said_at_start(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    (tmp_path / "empty").mkdir()
    running = Hypercorn(tmp_path / "empty", tmp_path / "run", tmp_path / "log", 0)
    try:
        assert running.process.wait(60) != 0
        assert "there is no model in" in running.log.read_text()
        until(lambda: not running.supervisors(), 30)
    finally:
        running.kill()
