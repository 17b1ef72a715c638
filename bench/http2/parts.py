"""The parts of the run: streams of every server, small POSTs of every server, aruntime on its real way."""

import contextlib
import json
import re
import shutil
import ssl
import subprocess
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import measure
import real
from client import Http1Connection
from measure import BODY, POSTERS, Cost, Fault, connected
from real import Told
from servers import ARUNTIME, GRANIAN, NAMES, STOCK, UVICORN, Certificate, Server, peers, serving

SCENES = {"16 h2c": (16, False), "256 h2c": (256, False), "4 TLS": (4, True), "256 TLS": (256, True)}
APPS = {
    ARUNTIME: ("/alone/raw", "/alone/starlette", "/step/raw", "/step/written"),
    STOCK: ("/alone/raw", "/alone/starlette", "/step/raw"),
    UVICORN: ("/alone/raw", "/alone/starlette", "/step/raw"),
    GRANIAN: ("/alone/raw", "/alone/starlette", "/step/raw"),
}
REAL = "aruntime, its real way"
_TOKENIZE = b'{"model": "demo", "prompt": "What is a canary rollout?"}'
_CHAT = json.dumps(
    {"model": "demo", "messages": [{"role": "user", "content": "What is a canary rollout?"}], "max_tokens": 1}
).encode()
Key = tuple[str, str, str]  # server, application, scene


@dataclass(slots=True)
class Found:
    """What was measured, a value for each repeat."""

    repeats: int
    window_s: float
    costs: dict[Key, list[Cost]] = field(default_factory=lambda: defaultdict(list))
    told: dict[str, list[Told]] = field(default_factory=lambda: defaultdict(list))  # by scene
    h2load: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))  # requests a second, by server


@dataclass(slots=True)
class Bench:
    """What the parts have in common."""

    stack: contextlib.ExitStack  # ends what they start
    certificate: Certificate
    trust: ssl.SSLContext
    core: int
    repeats: int
    window_s: float
    found: Found = field(init=False)
    _servers: dict[tuple[str, bool], Server] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.found = Found(self.repeats, self.window_s)

    def servers(self, tls: bool) -> list[Server]:
        """All that there are, started at the first call."""
        if not self._servers:
            programs = peers()
            for name in NAMES if programs is not None else (ARUNTIME, STOCK):
                for certificate in (None, self.certificate):
                    started = self.stack.enter_context(serving(name, programs, certificate, self.core))
                    self._servers[name, certificate is not None] = started
        return [server for (_, with_tls), server in self._servers.items() if with_tls == tls]

    def add(self, server: str, app: str, scene: str, cost: Cost) -> None:
        """Keep one measurement, and tell it."""
        self.found.costs[server, app, scene].append(cost)
        told = f"{cost.each_us:6.1f} us  {cost.rate:8.0f}/s  client {cost.client_cpu_s / cost.seconds:4.0%}"
        print(f"{told}  {server}, {app}, {scene}", file=sys.stderr, flush=True)


async def streams(bench: Bench) -> None:
    """Paced streams of the application."""
    for _ in range(bench.repeats):
        for scene, (connections, tls) in SCENES.items():
            for server in bench.servers(tls):
                fault = Fault()
                trust = bench.trust if tls else None
                async with connected(server.port, connections, trust, fault) as open_ones:
                    for app in APPS[server.name]:
                        cost = await measure.paced(open_ones, app, bench.window_s, server.cpu_s, fault)
                        bench.add(server.name, app, scene, cost)


async def posts(bench: Bench) -> None:
    """Small POSTs to the application, by HTTP/2 and HTTP/1.1; and by h2load, where it is installed."""
    want = json.dumps(json.loads(BODY)).encode()
    for _ in range(bench.repeats):
        for server in bench.servers(tls=False):
            ask = ("/echo", BODY, lambda answer: answer == want, bench.window_s, server.cpu_s)
            for protocol, cost in (await _by_both(server.port, *ask)).items():
                bench.add(server.name, "POST", protocol, cost)
            if shutil.which("h2load") is not None:
                bench.found.h2load[server.name].append(_h2load(server.port, bench.certificate.certfile.parent))


async def on_the_real_way(bench: Bench) -> None:
    """256 streamed chats of aruntime itself, and small POSTs to it."""
    with real.serving(None, bench.core) as clear, real.serving(bench.certificate, bench.core) as secret:
        for _ in range(bench.repeats):
            for scene, (connections, tls) in SCENES.items():
                server, trust, fault = secret if tls else clear, bench.trust if tls else None, Fault()
                async with connected(server.port, connections, trust, fault) as open_ones:
                    told = await real.streams(server, open_ones, bench.window_s, fault)
                    bench.found.told[scene].append(told)
                    bench.add(REAL, "stream", scene, told.cost)
            for path, body, says in (
                ("/tokenize", _TOKENIZE, b'"count":'),
                ("/v1/chat/completions", _CHAT, b'"usage"'),
            ):
                ask = (path, body, lambda answer, says=says: says in answer, bench.window_s, clear.cpu_s)
                for protocol, cost in (await _by_both(clear.port, *ask)).items():
                    bench.add(REAL, path, protocol, cost)


PARTS: dict[str, Callable[[Bench], Awaitable[None]]] = {"servers": streams, "posts": posts, "real": on_the_real_way}


def versions() -> str:
    """What was compared."""
    own = f"Hypercorn {version('hypercorn')}, h2 {version('h2')}, uvloop {version('uvloop')}"
    programs = peers()
    if programs is None:
        return own
    listed = subprocess.run([f"{programs}/pip", "list", "--format=json"], capture_output=True, check=True).stdout
    known = {one["name"].lower(): one["version"] for one in json.loads(listed)}
    return f"{own}; uvicorn {known['uvicorn']} with zttp {known['zttp']}; Granian {known['granian']}"


async def _by_both(port: int, path: str, body: bytes, *ask: Any) -> dict[str, Cost]:
    """POSTs by HTTP/2, then by HTTP/1.1."""
    fault = Fault()
    async with connected(port, POSTERS, None, fault) as open_ones:
        by_2 = await measure.posts(open_ones, path, body, *ask, fault)
    older = [await Http1Connection.open("127.0.0.1", port, fault) for _ in range(POSTERS)]
    by_1 = await measure.posts(older, path, body, *ask, fault)
    for connection in older:
        connection.close()
    return {"h2": by_2, "HTTP/1.1": by_1}


def _h2load(port: int, folder: Path) -> float:
    """Requests a second of 16 clients with 10 POSTs each under way."""
    (folder / "body").write_bytes(BODY)
    command = ["h2load", "-n", "10000", "-c", "16", "-m", "10", "-d", str(folder / "body")]
    command += ["-H", "content-type: application/json", f"http://127.0.0.1:{port}/echo"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    if "10000 succeeded, 0 failed" not in told:
        raise RuntimeError(told)
    rate = re.search(r"([\d.]+) req/s", told)
    assert rate is not None
    return float(rate[1])
