"""`make gpu` on a machine without a GPU, and with red tests: one clear line, and no figure."""

import runpy
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parent.parent.parent
SCRIPT = ROOT / "bench/gpu/run.py"


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """The functions of the script, on a machine that says it has a GPU."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    return runpy.run_path(str(SCRIPT))["main"].__globals__


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line_and_exits_2() -> None:
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "make gpu: there is no GPU on this machine\n"


def test_red_tests_print_no_figure(script: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    script["tests_pass"] = lambda: False
    script["operations"] = lambda: pytest.fail("measured while red")
    assert script["main"]() == 1
    assert capsys.readouterr() == ("", "make gpu: tests are red; nothing is measured\n")


def test_it_runs_tests_that_are_there(script: dict[str, Any]) -> None:
    assert [test for test in script["TESTS"] if not (ROOT / test).exists()] == []


@pytest.mark.parametrize(("body", "passes"), [("assert True", True), ("assert False", False)])
def test_one_red_file_is_enough(script: dict[str, Any], tmp_path: Path, body: str, passes: bool) -> None:
    green, other = tmp_path / "test_green.py", tmp_path / "test_other.py"
    green.write_text("def test_a():\n    assert True\n")
    other.write_text(f"def test_b():\n    {body}\n")
    script["TESTS"] = [str(green), str(other)]
    assert script["tests_pass"]() is passes


def test_tests_that_hang_are_red_and_are_ended(script: dict[str, Any], tmp_path: Path) -> None:
    slow = tmp_path / "test_slow.py"
    slow.write_text("import time\n\n\ndef test_a():\n    time.sleep(100)\n")
    script |= {"TESTS": [str(slow)], "TESTS_TIMEOUT_S": 0.5}
    assert script["tests_pass"]() is False
