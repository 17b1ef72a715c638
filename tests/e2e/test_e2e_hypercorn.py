"""Plain hypercorn serves too: its workers find or start one supervisor, which ends with the last of them."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from e2e_server import completion, events, free_port, h2c, is_alive, until


class Hypercorn:
    """`hypercorn aruntime.asgi:app`, in a session of its own."""

    def __init__(self, repository: Path, runtime: Path, log: Path, workers: int) -> None:
        self.log = log
        self._runtime = runtime
        address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{address}"
        settings = {"ARUNTIME_REPOSITORY": repository, "XDG_RUNTIME_DIR": runtime, "ARUNTIME_THREADS": 1}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "hypercorn", "aruntime.asgi:app", "-w", str(workers), "--bind", address],
                env=os.environ | {name: str(value) for name, value in settings.items()},
                stdout=output,
                stderr=output,
                process_group=0,
            )

    def is_up(self) -> bool:
        """Whether it answers."""
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            return httpx.get(f"{self.url}/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def supervisors(self) -> list[int]:
        """Process ids of supervisors that meet front ends in this test's folder."""
        return [
            pid for pid in _processes() if str(self._runtime) in _command(pid) and "cli.supervisor" in _command(pid)
        ]

    def terminate(self) -> int:
        """Ask it to stop; its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)

    def kill(self) -> None:
        """End its processes at once."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


@contextmanager
def hypercorn(repository: Path, folder: Path, workers: int) -> Iterator[Hypercorn]:
    runtime = folder / "run"
    runtime.mkdir(mode=0o700)
    running = Hypercorn(repository, runtime, folder / "log", workers)
    try:
        until(running.is_up, 90)
        yield running
    finally:
        running.kill()
        until(lambda: not running.supervisors(), 30)


def _processes() -> list[int]:
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def _command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() if is_alive(pid) else ""
    except (FileNotFoundError, ProcessLookupError):
        return ""


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_workers_share_one_supervisor_that_ends_with_them(repository: Path, tmp_path: Path, workers: int) -> None:
    with hypercorn(repository, tmp_path, workers) as running:
        with h2c(running.url) as client:
            answer = client.post("/v1/completions", json=completion(20))
        assert events(answer.text.splitlines())[-1] == "[DONE]"
        (supervisor,) = running.supervisors()
        engines = [pid for pid in _processes() if f"child {supervisor} aruntime.engine.main" in _command(pid)]
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
