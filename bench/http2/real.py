"""aruntime itself: what its front end spends on a token, from the ring to the socket, with an engine that is paced.

Supervisor, front end, rings, scheduler, admission, detokenizer, JSON and frames are the product's; only the model is
a clock (paced_engine.py). The front end has the measured core; the engine shares the client's.
"""

import asyncio
import contextlib
import itertools
import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import processes
from client import Connection, Wrong
from measure import STREAMS, Cost, Fault, cost_while, ended
from paced_engine import STEP_S, WORDS
from servers import Certificate

from aruntime.control.repository import publish

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
_LIMITS = """[limits]
sequences_max = 300
waiting_max = 300
step_tokens_max = 4096
cache_bytes = 268_435_456
"""
_WARM_S = 0.6


@dataclass(frozen=True, slots=True)
class Running:
    """A server; its front end is measured."""

    port: int
    front_end: int

    def cpu_s(self) -> float:
        return processes.cpu_s([self.front_end])


class Chat:
    """Takes one streamed chat completion, and counts its events."""

    def __init__(self) -> None:
        self.events = 0
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pieces: list[bytes] = []

    def take(self, data: bytes) -> None:
        self.events += data.count(b"\n\n")
        self._pieces.append(data)

    def end(self) -> None:
        self.ended.set_result(None)

    def check(self, tokens: int) -> int:
        """Wrong unless each of so many tokens came, once and in its place. How many events they came in."""
        events = b"".join(self._pieces).split(b"\n\n")
        if events[-2:] != [b"data: [DONE]", b""]:
            raise Wrong(f"a chat ends {events[-2:]!r}")
        chunks = [json.loads(one.removeprefix(b"data: ")) for one in events[:-2]]
        deltas = [choice["delta"].get("content") for chunk in chunks for choice in chunk["choices"]]
        text = "".join(piece for piece in deltas if piece)
        begins = next(number for number, word in enumerate(WORDS) if text.startswith(word))
        if text != "".join(itertools.islice(itertools.cycle(WORDS), begins, begins + tokens)):
            raise Wrong(f"a chat is not what the engine said: {text[:200]!r}")
        return sum(bool(piece) for piece in deltas)


@dataclass(frozen=True, slots=True)
class Told:
    """One window of streams."""

    cost: Cost
    wakes_a_step: float  # of the front end
    tokens_an_event: float  # more than one: it could not keep up


@contextlib.contextmanager
def serving(certificate: Certificate | None, core: int) -> Iterator[Running]:
    """The server, with its front end on a core of its own."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = ["--port", "0", "--json", "--threads", "1", "--log-level", "warning", "--no-keep-answers"]
        arguments += ["--repository", str(_repository(Path(folder))), "--journal", f"{folder}/journal"]
        if certificate is not None:
            arguments += ["--certfile", str(certificate.certfile), "--keyfile", str(certificate.keyfile)]
        command = [sys.executable, "paced_serve.py", "serve", *arguments]
        with subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                ready = json.loads(process.stdout.readline())
                (front_end,) = processes.running(process.pid, "aruntime.cli.frontend")
                processes.pin(front_end, core)
                yield Running(urlsplit(ready["url"]).port or 0, front_end)
            finally:
                process.terminate()


async def streams(server: Running, connections: list[Connection], window_s: float, fault: Fault) -> Told:
    """256 chats over these connections, to their ends."""
    tokens = int((window_s + 2 * _WARM_S) / STEP_S)
    body = json.dumps(
        {
            "model": "demo",
            "messages": [{"role": "user", "content": "What is a canary rollout?"}],
            "max_tokens": tokens,
            "ignore_eos": True,
            "stream": True,
        }
    ).encode()
    chats = [Chat() for _ in range(STREAMS)]
    for number, chat in enumerate(chats):
        connections[number % len(connections)].ask("/v1/chat/completions", chat, body)
    while not all(chat.events > 2 for chat in chats):
        await asyncio.sleep(STEP_S)
        fault.check()
    await asyncio.sleep(_WARM_S / 2)
    slept = processes.sleeps(server.front_end)
    cost = await cost_while(window_s, server.cpu_s, lambda: sum(chat.events for chat in chats), fault)
    wakes = processes.sleeps(server.front_end) - slept
    await ended([chat.ended for chat in chats], fault)
    events = sum(chat.check(tokens) for chat in chats)
    return Told(cost, wakes * STEP_S / cost.seconds, STREAMS * tokens / events)


def _repository(folder: Path) -> Path:
    """The demo model without golden questions: a clock would answer them wrong."""
    shutil.copytree(ROOT / "examples/repository/demo/1", folder / "source")
    shutil.rmtree(folder / "source/golden")
    (folder / "source/MANIFEST.json").unlink()
    publish(folder / "source", folder / "repository", "demo")
    (folder / "repository/demo/model.toml").write_text(_LIMITS)
    return folder / "repository"
