"""Starts real servers for tests, looks at their processes, and ends no process but those."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import httpx

START_S = 90.0
SERVE = [sys.executable, "-m", "aruntime.cli.main", "serve"]
SERVE += ["--json", "--port", "0", "--threads", "1", "--cache-bytes", "32M"]
HEADERS = {"content-type": "application/json"}


class Server:
    """`aruntime serve`, ready. Leaving the context ends it, whatever state it is in."""

    def __init__(self, repository: Path, log: Path, *arguments: str) -> None:
        self._log = log.open("wb")
        self.log = log
        self.process = subprocess.Popen(
            [*SERVE, "--repository", str(repository), "--journal", str(log.with_suffix(".journal")), *arguments],
            stdout=subprocess.PIPE,
            stderr=self._log,
            process_group=0,
        )
        ready = self._ready()
        self.url, self.admin_url = str(ready["url"]), str(ready["admin_url"])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.send_signal(signal.SIGINT)  # the second word: two of the same may come as one
        try:
            self.process.wait(15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.close()

    def close(self) -> None:
        """Let go of its output, once it has ended."""
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._log.close()

    def terminate(self) -> None:
        """Ask it to stop."""
        self.process.send_signal(signal.SIGTERM)

    def metric(self, name: str, **labels: str) -> float:
        """The sum of a metric over its other labels, as the admin listener shows it."""
        text = httpx.get(f"{self.admin_url}/metrics").raise_for_status().text
        lines = [line.rsplit(" ", 1) for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        wanted = [f'{label}="{value}"' for label, value in labels.items()]
        return sum(float(value) for labelled, value in lines if all(one in labelled for one in wanted))

    def engines(self) -> list[int]:
        """Process ids of its engines."""
        return children(self.process.pid, "aruntime.engine.main")

    def probers(self) -> list[int]:
        """Process ids of the probers that ask golden questions now."""
        return children(self.process.pid, "aruntime.control.probe.probing")

    def front_ends(self) -> list[int]:
        """Process ids of its front ends."""
        return children(self.process.pid, "aruntime.cli.frontend")

    def is_ready(self) -> bool:
        """Whether every model is ready, as a front end sees it."""
        try:
            return httpx.get(f"{self.admin_url}/health/ready").status_code == 200
        except httpx.TransportError:
            return False

    def _ready(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        deadline_s = time.monotonic() + START_S
        os.set_blocking(self.process.stdout.fileno(), False)
        line = b""
        while not line.endswith(b"\n"):
            if self.process.poll() is not None or time.monotonic() > deadline_s:
                self.process.kill()
                self.close()
                raise AssertionError(f"the server did not become ready: {self.log.read_text()[-2000:]}")
            line += self.process.stdout.read() or b""
            time.sleep(0.02)
        ready: dict[str, Any] = json.loads(line)
        return ready


def children(parent: int, words: str) -> list[int]:
    """Process ids of the living children of `parent` whose command line contains `words`, oldest first."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state = (folder / "stat").read_text().rsplit(")", 1)[1].split()
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(state[1]) == parent and state[0] != "Z" and words in command:
            found.append(int(folder.name))
    return sorted(found)


def is_alive(pid: int) -> bool:
    """Whether a process is there and not a zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def sockets(pid: int) -> int:
    """How many sockets a process holds."""
    return sum("socket" in os.readlink(path) for path in Path(f"/proc/{pid}/fd").iterdir())


def until(condition: Callable[[], object], timeout_s: float = 20.0) -> None:
    """Wait for something that other processes do."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not happen in time"
        time.sleep(0.02)


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


def h2c(url: str, **options: Any) -> httpx.Client:
    """A client that speaks HTTP/2 with prior knowledge."""
    return httpx.Client(base_url=url, http1=False, http2=True, timeout=30, **options)


def completion(tokens: int, *, model: str = "tiny", stream: bool = True, **more: object) -> dict[str, object]:
    """A request for exactly so many tokens."""
    return {
        "model": model,
        "prompt": "hello",
        "max_tokens": tokens,
        "ignore_eos": True,
        "temperature": 0,
        "stream": stream,
        **more,
    }


def events(lines: Sequence[str]) -> list[str]:
    """The data of server-sent events."""
    return [line.removeprefix("data: ") for line in lines if line.startswith("data: ")]
