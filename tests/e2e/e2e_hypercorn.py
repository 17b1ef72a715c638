"""Starts plain hypercorn for tests, with a folder of its own where its workers meet."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
from e2e_server import free_port, is_alive, until


class Hypercorn:
    """`hypercorn aruntime.asgi:app`, in a session of its own."""

    def __init__(
        self, repository: Path, runtime: Path, log: Path, workers: int, *, host: str = "127.0.0.1", tenants: str = ""
    ) -> None:
        self.log = log
        self._runtime = runtime
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        settings = {"ARUNTIME_REPOSITORY": repository, "XDG_RUNTIME_DIR": runtime, "ARUNTIME_THREADS": 1}
        settings |= {"ARUNTIME_TENANTS": tenants, "ARUNTIME_JOURNAL": log.with_suffix(".journal")}
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "hypercorn",
                    "aruntime.asgi:app",
                    "-w",
                    str(workers),
                    "--bind",
                    f"{host}:{self.port}",
                ],
                env=os.environ | {name: str(value) for name, value in settings.items()},
                stdout=output,
                stderr=output,
                process_group=0,
            )

    def is_up(self) -> bool:
        """Whether it answers, be it that a key is wanted."""
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        try:
            return httpx.get(f"{self.url}/health/ready").status_code in (200, 401)
        except httpx.TransportError:
            return False

    def supervisors(self) -> list[int]:
        """Process ids of supervisors that meet front ends in this test's folder."""
        return [pid for pid in processes() if str(self._runtime) in command(pid) and "cli.supervisor" in command(pid)]

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
def hypercorn(repository: Path, folder: Path, workers: int, **more: str) -> Iterator[Hypercorn]:
    runtime = folder / "run"
    runtime.mkdir(mode=0o700)
    running = Hypercorn(repository, runtime, folder / "log", workers, **more)
    try:
        until(running.is_up, 90)
        yield running
    finally:
        running.kill()
        until(lambda: not running.supervisors(), 30)


def processes() -> list[int]:
    """The ids of all processes."""
    return [int(path.name) for path in Path("/proc").glob("[0-9]*")]


def command(pid: int) -> str:
    """The command line of a living process, or nothing."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode() if is_alive(pid) else ""
    except (FileNotFoundError, ProcessLookupError):
        return ""
