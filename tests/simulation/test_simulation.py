"""A million steps of drawn worlds under AddressSanitizer and UBSan: whatever goes wrong, every promise is kept.

A failure says its seed and step; `simulate chaos SEED STEPS` replays it (docs/simulation.md).
"""

import os
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from native import SANITIZE, build

CPP = Path(__file__).parent / "cpp"

STEPS = 1_000_000
SEEDS = 50


@pytest.fixture(scope="module")
def simulate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(CPP / "simulate.cpp", tmp_path_factory.mktemp("simulate"), *SANITIZE, "-Wconversion")


def run(program: Path, *arguments: object, text: str = "") -> "subprocess.CompletedProcess[str]":
    return subprocess.run([program, *map(str, arguments)], input=text, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("part", range(5))
def test_a_million_steps_break_no_promise(simulate: Path, part: int) -> None:
    with ThreadPoolExecutor(os.cpu_count()) as worlds:
        seeds = range(part, SEEDS, 5)
        runs = worlds.map(lambda seed: run(simulate, "chaos", seed, STEPS // SEEDS), seeds)
        for seed, ran in zip(seeds, runs, strict=True):
            assert ran.returncode == 0, f"seed {seed}: {ran.stdout}{ran.stderr}"


def test_the_same_seed_gives_the_same_run(simulate: Path) -> None:
    first, again, other = (run(simulate, "chaos", seed, 3000).stdout for seed in (11, 11, 12))
    assert first == again != other


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ("swap-tokens", ("told what was not sampled", "a wrong token", "stopped too early", "a token after the stop")),
        ("forget-write", ("a context that was not written for this prefix",)),
        ("lose-record", ("a gap in the output",)),
        ("repeat-record", ("a gap in the output", "told after its end")),
        ("favour-one", ("a tenant was left behind",)),
        ("lift-caps", ("more blocks than the tenant's cap",)),
        ("lose-pause", ("a paused sequence computes",)),
    ],
)
def test_a_fault_made_on_purpose_is_seen_and_replays(simulate: Path, fault: str, says: tuple[str, ...]) -> None:
    worlds = ((seed, run(simulate, "chaos", seed, 10_000, fault)) for seed in range(40))
    seed, broken = next((seed, ran) for seed, ran in worlds if ran.returncode)
    assert broken.stdout.startswith(tuple(f"broken: {words}" for words in says)), broken.stdout + broken.stderr
    steps = broken.stdout.split()[-1]
    assert run(simulate, "chaos", seed, steps, fault).stdout == broken.stdout


def test_a_scenario_that_is_not_understood_is_refused_by_name(simulate: Path, tmp_path: Path) -> None:
    ran = run(simulate, "run", tmp_path, text="tenant rate_per_s=1 colour=3\n")
    assert ran.returncode != 0
    assert "not understood: colour=3" in ran.stdout + ran.stderr


def test_the_books_hold_every_request_once(simulate: Path, tmp_path: Path) -> None:
    scenario = (
        "run seed=5 duration_s=30 check_every=64\nengine sequences_max=16\ntenant rate_per_s=5 cancel_share=0.1\n"
    )
    assert run(simulate, "run", tmp_path, text=scenario).returncode == 0
    records = (tmp_path / "records.bin").read_bytes()
    assert len(records) % 64 == 0
    assert 100 < len(records) // 64 < 200
