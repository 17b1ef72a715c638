"""`make bench`: the quick benchmarks, one table.

The small parts through pytest-benchmark (bench/bench_*.py), then the real server with the demo model under a short
open-loop load over HTTP/2 (bench/load.py). Times are medians. `--json FILE` keeps the figures with the machine's name.
"""

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import load
import uvloop
from rich.console import Console
from rich.table import Table

ROOT = Path(__file__).parent.parent


def small_parts() -> dict[str, float]:
    """Median seconds of every pytest-benchmark, by name."""
    with tempfile.TemporaryDirectory() as folder:
        found = Path(folder) / "found.json"
        command = [sys.executable, "-m", "pytest", *map(str, sorted(ROOT.glob("bench/bench_*.py"))), "-q"]
        command += ["--benchmark-enable", "--benchmark-only", f"--benchmark-json={found}", "-p", "no:cacheprovider"]
        subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.DEVNULL)
        return {one["name"]: one["stats"]["median"] for one in json.loads(found.read_bytes())["benchmarks"]}


@contextmanager
def serving(*arguments: str) -> Iterator[dict[str, Any]]:
    """A real server, started with `arguments`, stopped at the end; what it said when it was ready."""
    command = [sys.executable, "-m", "aruntime.cli.main", "serve", "--port", "0", "--json", *arguments]
    with (
        tempfile.TemporaryDirectory() as state,
        subprocess.Popen(
            [*command, "--journal", f"{state}/journal"], cwd=ROOT, stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            yield json.loads(process.stdout.readline())
        finally:
            process.terminate()


def server(rate: float, duration_s: float, arguments: Sequence[str] = ()) -> dict[str, Any]:
    """The figures of the real server with `arguments`."""
    source = load.Source(rate)
    with serving("--log-level", "warning", *arguments) as ready:
        uvloop.run(load.Run(ready["url"], "demo", [source], 2).samples())  # warm
        samples = uvloop.run(load.Run(ready["url"], "demo", [source], duration_s).samples())
        return load.report(samples, ttft_s=0.5, itl_s=0.1)


def machine() -> str:
    """The processor, by the name that it gives itself, and how many of its cores are ours."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    name = names[0].partition(":")[2].strip() if names else platform.machine()
    return f"{name}, {len(os.sched_getaffinity(0))} cores"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--rate", type=float, default=8.0)
    parser.add_argument("--duration-s", type=float, default=10.0)
    options = parser.parse_args()
    parts = small_parts()
    served = server(options.rate, options.duration_s)
    table = Table(title=f"aruntime on {machine()}")
    table.add_column("what")
    table.add_column("median or figure", justify="right")
    for name, seconds in parts.items():
        table.add_row(name, f"{seconds * 1e6:,.2f} us")
    table.add_section()
    for name, value in served.items():
        times = isinstance(value, dict) and "p99" in value
        text = ", ".join(f"{k} {v * 1e3:.2f} ms" for k, v in value.items()) if times else value
        table.add_row(f"demo server, {options.rate:g} requests/s: {name}", str(text))
    Console(width=140).print(table)
    if options.json:
        options.json.write_text(json.dumps({"machine": machine(), "parts_s": parts, "server": served}, indent=2) + "\n")


if __name__ == "__main__":
    main()
