"""A real server for ten minutes, with a tenth of its clients misbehaving: what it holds, and what the others notice.

    python bench/soak/run.py                    about thirteen minutes; writes bench/results/soak.md
    python bench/soak/run.py --minutes 0.3      a look, printed; so do the tests

    calm        good clients alone, for a quarter of the time
    with them   the same rate, and every tenth client misbehaves (misbehaving.py)
    after       everybody has left: everything is given back

Good clients are open loop over HTTP/2 (bench/load.py): `--rate` streams a second of 32 tokens each, on 36 connections.
Every 5 s the server's processes are looked at. Exits 1 when a good stream failed, or when a sequence, a block or a
descriptor was not given back; memory and latency are told.
"""

import argparse
import asyncio
import contextlib
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx
import uvloop

sys.path.insert(0, str(Path(__file__).parent.parent))

import processes
from load import Run, Sample, Source
from page import page
from quick import ROOT, machine, serving
from soaked import TOKENS, Look, Soaked

HERE = Path(__file__).parent
RESULTS = ROOT / "bench/results/soak.md"
GOOD, BAD = 36, 4
MINUTES, RATE = 10.0, 16.0
LOOK_S = 5.0
SETTLE_S = 40.0  # from when everybody has left until everything must have been given back


class Server:
    """The one that runs, to be looked at."""

    def __init__(self, ready: dict[str, str], pid: int) -> None:
        self.url = ready["url"]
        self._admin = httpx.AsyncClient(base_url=ready["admin_url"], timeout=30)
        self._names = {pid: "supervisor"}
        for words, name in (("aruntime.cli.frontend", "front end"), ("aruntime.engine.main", "engine")):
            for number, member in enumerate(processes.running(pid, f"{words} --"), 1):
                self._names[member] = f"{name} {number}" if name == "front end" else name

    async def look(self) -> Look:
        """How it is. RuntimeError: a process of it has died."""
        text = (await self._admin.get("/metrics")).raise_for_status().text
        # A connection of ours would be counted.
        await self._admin.aclose()
        self._admin = httpx.AsyncClient(base_url=self._admin.base_url, timeout=30)
        try:
            rss_bytes = {name: processes.rss_bytes(pid) for pid, name in self._names.items()}
            descriptors = {name: processes.descriptors(pid) for pid, name in self._names.items()}
        except FileNotFoundError as error:
            raise RuntimeError(f"a process of the server has died: {error}") from None
        in_flight, paused, blocks_free = (
            _metric(text, name)
            for name in ("aruntime_sequences_in_flight", "aruntime_sequences_paused", "aruntime_blocks_free")
        )
        return Look(time.monotonic(), rss_bytes, descriptors, in_flight, paused, blocks_free)

    def cpu_s(self) -> float:
        """What all of it has used so far."""
        return processes.cpu_s(list(self._names))


async def soak(server: Server, minutes: float, rate: float) -> Soaked:
    """The three phases."""
    await _good(server, rate, 5.0, seed=0)  # warm
    await asyncio.sleep(1)
    soaked = Soaked(machine(), minutes, rate, await server.look())
    used_s, calm_s, beset_s = server.cpu_s(), 60 * minutes / 4, 60 * minutes
    soaked.calm = await _good(server, rate, calm_s, seed=1)
    soaked.busy["calm"] = (server.cpu_s() - used_s) / calm_s
    used_s = server.cpu_s()
    with _misbehaving(server.url, soaked.done):
        watching = asyncio.create_task(_watch(server, soaked.looks))
        soaked.beset = await _good(server, rate, beset_s, seed=2)
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    soaked.busy["with them"] = (server.cpu_s() - used_s) / beset_s
    soaked.after = await _at_rest(server, soaked)
    return soaked


async def _good(server: Server, rate: float, duration_s: float, seed: int) -> list[Sample]:
    return await Run(server.url, "demo", [Source(rate, output_tokens=TOKENS)], duration_s, seed).samples(GOOD)


async def _watch(server: Server, looks: list[Look]) -> None:
    while True:
        looks.append(await server.look())
        await asyncio.sleep(LOOK_S)


async def _at_rest(server: Server, soaked: Soaked) -> Look:
    """The last look: everything has been given back, or it is too late."""
    until_s = time.monotonic() + SETTLE_S
    while True:
        soaked.after = await server.look()
        if time.monotonic() > until_s or (not soaked.faults and soaked.after.descriptors == soaked.before.descriptors):
            return soaked.after
        await asyncio.sleep(0.5)


@contextlib.contextmanager
def _misbehaving(url: str, done: Counter[str]) -> Iterator[None]:
    """Their process, from now to the end of the context; `done` is what they did."""
    with tempfile.TemporaryFile("w+") as told:
        command = [sys.executable, str(HERE / "misbehaving.py"), url, str(BAD)]
        with subprocess.Popen(command, stdout=told, text=True) as process:
            try:
                yield
                if process.poll() is not None:
                    raise RuntimeError("the misbehaving have ended")
            finally:
                process.kill()
        told.seek(0)
        done.update(json.loads(told.read().strip().rpartition("\n")[2] or "{}"))


def _metric(text: str, name: str) -> float:
    """The sum of a metric over its labels."""
    lines = [line for line in text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=MINUTES, help="with the misbehaving; a quarter of it without")
    parser.add_argument("--rate", type=float, default=RATE, help="good streams a second")
    options = parser.parse_args()
    given = [
        "--workers",
        "2",
        "--threads",
        "1",
        "--log-level",
        "error",
        "--repository",
        str(ROOT / "examples/repository"),
    ]
    with serving(*given) as ready:
        soaked = uvloop.run(_soak(ready, options))
    text = page(soaked)
    print(text)
    if (options.minutes, options.rate) == (MINUTES, RATE):
        RESULTS.write_text(text)
    sys.exit(bool(soaked.faults))


async def _soak(ready: dict[str, str], options: argparse.Namespace) -> Soaked:
    return await soak(Server(ready, int(ready["pid"])), options.minutes, options.rate)


if __name__ == "__main__":
    main()
