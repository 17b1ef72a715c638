"""The pool: never more threads than asked for, asleep between steps, clean at exit and after fork."""

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from aruntime_kernels import cpu
from aruntime_kernels.linear import linear, pack
from torch import Tensor


@pytest.fixture(autouse=True)
def one_thread_afterwards() -> Iterator[None]:
    yield
    cpu.set_threads(1)


def thread_count() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


def work(rows: int = 64) -> Tensor:
    out = torch.empty(rows, 512)
    linear(torch.ones(rows, 512), pack(torch.ones(512, 512)), out)
    return out


def test_there_are_never_more_threads_than_asked_for() -> None:
    cpu.set_threads(1)
    before = thread_count()
    for threads in (4, 2, 3, 1):
        cpu.set_threads(threads)
        work()
        assert thread_count() == before + threads - 1
        assert cpu.threads() == threads


@pytest.mark.parametrize("threads", [0, -1, 257])
def test_a_senseless_number_of_threads_is_refused(threads: int) -> None:
    with pytest.raises(ValueError, match=f"want 1 to 256, got {threads}"):
        cpu.set_threads(threads)


def test_idle_threads_burn_nothing() -> None:
    cpu.set_threads(4)
    work()
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.5)
    assert time.process_time() - before < 0.05


def test_callers_on_several_threads_get_right_answers() -> None:
    cpu.set_threads(3)
    failures: list[int] = []

    def call(rows: int) -> None:
        for _ in range(100):
            if not bool((work(rows) == 512).all()):
                failures.append(rows)

    callers = [threading.Thread(target=call, args=(rows,)) for rows in (1, 5, 64)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert failures == []


def test_many_short_jobs_are_each_done_once() -> None:
    cpu.set_threads(4)
    x, packed = torch.ones(1, 512), pack(torch.ones(1024, 512))
    out = torch.empty(1, 1024)
    for _ in range(3000):
        out.zero_()
        linear(x, packed, out)
        assert out.sum() == 1024 * 512


SCRIPT = """
import os, sys
import torch
from aruntime_kernels import cpu
from aruntime_kernels.linear import linear, pack
x, out, packed = torch.ones(64, 512), torch.empty(64, 512), pack(torch.ones(512, 512))
cpu.set_threads(3)
linear(x, packed, out)
child = os.fork()
if child == 0:
    assert cpu.threads() == 1
    for threads in (1, 2):
        cpu.set_threads(threads)
        out.zero_()
        linear(x, packed, out)
        assert (out == 512).all()
    sys.exit(7)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
linear(x, packed, out)
assert (out == 512).all()
"""


def test_a_process_that_forks_and_forgets_its_threads_exits_clean() -> None:
    kernels = str(Path(cpu.__file__).parents[1])
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "PYTHONPATH": kernels},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
