"""What one model's trouble does to another's latency: two models in one server, each with an engine of its own.

    python bench/isolation.py [--seed N] [--rounds N]

    alone     `calm` is asked at a low rate, `other` rests
    flood     `other` is sent far more than it can take, by clients that do not wait
    crash     the engine of `other` is killed as often as it is ready again, while it is asked
    loads     `other` is unloaded and loaded again and again

The phases come in turn, round after round; samples of a phase are pooled. Engines run on one thread each. The first
second of a phase is not counted. Writes bench/results/isolation.md. About three minutes.
"""

import argparse
import asyncio
import contextlib
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import uvloop
from load import Run, Sample, Source, percentile
from quick import ROOT, machine, serving
from rich.progress import track

RESULTS = ROOT / "bench/results/isolation.md"
LIMITS = "[limits]\nsequences_max = 16\nwaiting_max = 64\nstep_tokens_max = 256\ncache_bytes = 33_554_432\n"
CALM = Source(4.0, input_words=50, output_tokens=32)
FLOOD = Source(300.0, input_words=50, output_tokens=128)
PHASE_S, SETTLE_S, PATIENCE_S = 8.0, 1.0, 20.0

Trouble = Callable[[dict[str, Any]], Awaitable[None]]


async def nothing(_ready: dict[str, Any]) -> None:
    """`other` rests."""


async def flood(ready: dict[str, Any]) -> None:
    await Run(ready["url"], "other", [FLOOD], PHASE_S, 1).samples(8, PATIENCE_S)


async def crash(ready: dict[str, Any]) -> None:
    async with httpx.AsyncClient(timeout=5) as client:
        asking = asyncio.create_task(Run(ready["url"], "other", [CALM], PHASE_S, 1).samples(2, PATIENCE_S))
        until_s = time.monotonic() + PHASE_S
        while time.monotonic() < until_s:
            health = (await client.get(f"{ready['admin_url']}/health/engine")).json()
            if all(engine["ok"] for engine in health["engines"]):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(_newest_engine(ready["pid"]), signal.SIGKILL)
            await asyncio.sleep(0.2)
        await asking


async def loads(ready: dict[str, Any]) -> None:
    async with httpx.AsyncClient(base_url=ready["admin_url"], timeout=60) as client:
        until_s = time.monotonic() + PHASE_S
        while time.monotonic() < until_s:
            await client.post("/admin/models/other/unload")
            await client.post("/admin/models/other/load")


PHASES: dict[str, Trouble] = {"alone": nothing, "flood": flood, "crash": crash, "loads": loads}


def _newest_engine(supervisor: int) -> int:
    """The engine of `other`: that of `calm` is never started again, so it is the oldest."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if parent == supervisor and b"aruntime.engine.main" in (folder / "cmdline").read_bytes():
                found.append(int(folder.name))
    return max(found)


async def phase(ready: dict[str, Any], trouble: Trouble, seed: int) -> list[Sample]:
    """The samples of `calm` meanwhile."""
    from_s = time.monotonic() + SETTLE_S
    samples, _ = await asyncio.gather(
        Run(ready["url"], "calm", [CALM], PHASE_S, seed).samples(4, PATIENCE_S), trouble(ready)
    )
    return [sample for sample in samples if sample.due_s > from_s]


async def recovered(ready: dict[str, Any]) -> None:
    """Both models are ready, and nothing is left of what was before."""
    async with httpx.AsyncClient(timeout=5) as client:
        while (await client.get(f"{ready['url']}/health/ready")).status_code != 200:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
    await asyncio.sleep(1.0)


def measure(seed: int, rounds: int) -> dict[str, list[Sample]]:
    """Samples of `calm` by phase."""
    found: dict[str, list[Sample]] = {name: [] for name in PHASES}
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder) / "repository"
        for model in ("calm", "other"):
            shutil.copytree(ROOT / "examples/repository/demo", repository / model)
            (repository / model / "model.toml").write_text(LIMITS)
        given = ["--repository", str(repository), "--threads", "1", "--log-level", "error"]
        with serving(*given) as ready:
            uvloop.run(Run(ready["url"], "calm", [CALM], 2).samples())  # warm
            for number in track(range(rounds), "measuring"):
                for name, trouble in PHASES.items():
                    uvloop.run(recovered(ready))
                    found[name] += uvloop.run(phase(ready, trouble, seed + number))
    return found


def markdown(found: dict[str, list[Sample]], options: argparse.Namespace) -> str:
    """The page of results."""
    rows, base = [], {}
    for name, samples in found.items():
        good = [sample for sample in samples if sample.ok]
        ttft = [1000 * sample.ttft_s for sample in good]
        itl = [1000 * gap for sample in good for gap in sample.itl_s]
        figures = [percentile(ttft, 0.5), percentile(ttft, 0.99), percentile(itl, 0.5), percentile(itl, 0.99)]
        base = base or dict(enumerate(figures))
        cells = [f"{figure:.2f} ({figure / base[i]:.2f} x)" for i, figure in enumerate(figures)]
        rows.append(f"| {name} | {len(samples)} | {len(samples) - len(good)} | {' | '.join(cells)} |")
    return "\n".join(
        [
            "# One model's trouble beside another",
            "",
            f"Written by `python bench/isolation.py --seed {options.seed} --rounds {options.rounds}` on "
            f"{datetime.now(UTC):%Y-%m-%d}:",
            f"{machine()}, shared with the generator. Two copies of the demo model in one server with one",
            "front end, an engine of one thread each; `calm` is asked 4 times a second (50 words, 32 tokens) in every",
            f"phase. `flood` sends {FLOOD.rate:g} requests a second of 128 tokens to the other model; `crash` kills",
            "its engine whenever it is ready again; `loads` unloads it and loads it again without a pause.",
            "",
            "| phase | requests to `calm` | failed | TTFT p50, ms | p99 | ITL p50, ms | p99 |",
            "| --- | --- | --- | --- | --- | --- | --- |",
            *rows,
            "",
            "In brackets: beside `alone`.",
            "",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    page = markdown(measure(options.seed, options.rounds), options)
    RESULTS.write_text(page)
    print(page)


if __name__ == "__main__":
    main()
