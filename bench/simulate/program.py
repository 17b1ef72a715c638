"""Builds the simulator (tests/simulation/cpp) and runs scenarios on it: text in, books out as numpy arrays."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parent.parent.parent
SOURCES = ROOT / "tests/simulation/cpp"
Fields = Mapping[str, float]

# The records of ask.hpp and books.hpp.
RECORD = np.dtype(
    [("arrived_s", "f8"), ("first_s", "f4"), ("end_s", "f4"), ("gap_max_s", "f4"), ("gap_mean_s", "f4"),
     ("timeout_s", "f4"), ("forecast_s", "f4"), ("tenant", "u4"), ("replica", "u4"), ("prompt_tokens", "u4"),
     ("cached_tokens", "u4"), ("told", "u4"), ("wanted", "u4"), ("refusal", "u4"), ("finish", "u4")]
)  # fmt: skip
SERVICE = np.dtype([("at_s", "f8"), ("prefilled", "f8"), ("decoded", "f8"), ("tenant", "u4"), ("queued", "u4")])
GAP_BINS, GAP_MIN_S, GAP_RATIO = 360, 1e-5, 1.05
STOP, LENGTH = 1, 2
REFUSALS = ("let in", "deadline", "full", "tokens", "slow", "share", "budget", "size")


@cache
def build() -> Path:
    """The program, built once in a run into a temporary folder that lives as long as the machine keeps it."""
    program = Path(tempfile.mkdtemp(prefix="aruntime-simulate-")) / "simulate"
    compiler = os.environ.get("CXX") or shutil.which("g++") or "c++"
    command = [compiler, "-std=c++20", "-O2", f"-I{ROOT / 'csrc'}", str(SOURCES / "simulate.cpp"), "-o", str(program)]
    subprocess.run(command, check=True)
    return program


@dataclass(frozen=True, slots=True)
class Books:
    """What the clients of one run wrote down. Requests that came in the first or last tenth of it are left out."""

    records: Any
    gaps: Any  # [tenants, GAP_BINS], all of the run
    service: Any
    seed: int
    seconds: float  # of the part that counts

    def of(self, tenant: int) -> "Books":
        """The books of one tenant."""
        keep = self.records["tenant"] == tenant
        return Books(self.records[keep], self.gaps[tenant : tenant + 1], self.service, self.seed, self.seconds)

    @property
    def answered(self) -> Any:
        """The records of requests that got their whole answer."""
        return self.records[np.isin(self.records["finish"], (STOP, LENGTH))]

    def per_s(self, records: Any) -> float:
        return len(records) / self.seconds

    def good(self, ttft_s: float, itl_s: float) -> float:
        """Goodput: requests a second with their whole answer, first token and mean time between tokens in time."""
        answered = self.answered
        return self.per_s(answered[(answered["first_s"] <= ttft_s) & (answered["gap_mean_s"] <= itl_s)])

    def ttft_s(self, quantile: float) -> float:
        """Of all that were let in and got a token."""
        first_s = self.records["first_s"]
        first_s = first_s[first_s >= 0]
        return float(np.quantile(first_s, quantile)) if len(first_s) else float("nan")

    def itl_s(self, quantile: float) -> float:
        """Of every gap between two tokens, to 5 %."""
        counts = self.gaps.sum(axis=0)
        if not counts.sum():
            return float("nan")
        place = int(np.searchsorted(np.cumsum(counts), quantile * counts.sum()))
        return float(GAP_MIN_S * GAP_RATIO ** (place + 0.5))

    @property
    def refused_share(self) -> float:
        """Of the requests, those that the door or the engine's own bounds refused."""
        refused = (self.records["refusal"] > 0) | (self.records["finish"] == 6)
        return float(refused.mean()) if len(refused) else 0.0

    @property
    def hit_share(self) -> float:
        """Of the requests with a deadline, those that had their whole answer by then; those whose time is not over
        when the run is are left out."""
        decided = (self.records["finish"] > 0) | (self.records["refusal"] > 0)
        timed = self.records[np.isfinite(self.records["timeout_s"]) & decided]
        whole = np.isin(timed["finish"], (STOP, LENGTH)) & (timed["end_s"] <= timed["timeout_s"])
        return float(whole.mean()) if len(timed) else float("nan")


def run(run: Fields, engine: Fields, step_time: Fields, tenants: Sequence[Fields]) -> Books:
    """Simulate one scenario; the names are those of scenario.hpp."""
    lines = [("run", run), ("engine", engine), ("step_time", step_time), *(("tenant", tenant) for tenant in tenants)]
    text = "".join(f"{kind} " + " ".join(f"{name}={value}" for name, value in d.items()) + "\n" for kind, d in lines)
    with tempfile.TemporaryDirectory() as folder:
        ran = subprocess.run([build(), "run", folder], input=text, text=True, capture_output=True)
        if ran.returncode:
            raise RuntimeError(f"{ran.stdout}{ran.stderr}\n{text}")
        found = Path(folder)
        records = np.fromfile(found / "records.bin", RECORD)
        gaps = np.fromfile(found / "gaps.bin", np.uint64).reshape(-1, GAP_BINS)
        service = np.fromfile(found / "service.bin", SERVICE)
    duration_s = run["duration_s"]
    kept = (records["arrived_s"] >= duration_s / 10) & (records["arrived_s"] < duration_s * 9 / 10)
    return Books(records[kept], gaps, service, int(run["seed"]), duration_s * 8 / 10)
