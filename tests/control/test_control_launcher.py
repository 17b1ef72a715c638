"""Processes are told apart by how they end, inherit only what they are given, and do not outlive their parent."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from aruntime.control.launcher import LocalLauncher, describe, environment, python


async def ended(module: str, *arguments: str, keep: tuple[int, ...] = ()) -> int:
    end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    LocalLauncher().start(module, arguments, keep, end.set_result)
    return await asyncio.wait_for(end, 20)


@pytest.fixture
def launched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], object]:
    """Writes an importable module `launched`."""
    monkeypatch.syspath_prepend(tmp_path)
    return (tmp_path / "launched.py").write_text


COUNT_SECRETS = """
import os, sys
links = [os.path.join("/proc/self/fd", fd) for fd in os.listdir("/proc/self/fd")]
sys.exit(sum(os.readlink(link).endswith(".secret") for link in links if os.path.islink(link)))
"""


async def test_a_childs_exit_status_is_told(launched: Callable[[str], object]) -> None:
    launched("import sys\nsys.exit(int(sys.argv[1]))")
    assert await ended("launched", "7") == 7
    assert describe(7) == "exited with status 7"


async def test_a_killed_child_is_told_apart(launched: Callable[[str], object]) -> None:
    launched("import time\ntime.sleep(60)")
    end: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    child = LocalLauncher().start("launched", [], [], end.set_result)
    child.kill()
    child.kill()
    assert await asyncio.wait_for(end, 20) == -9
    assert describe(-9) == "was killed by signal 9"
    child.kill()  # long gone: nobody is hit


async def test_a_child_has_the_descriptors_it_was_given_and_no_other(
    launched: Callable[[str], object], tmp_path: Path
) -> None:
    launched(COUNT_SECRETS)
    given, kept = os.open(tmp_path / "a.secret", os.O_CREAT), os.open(tmp_path / "b.secret", os.O_CREAT)
    assert await ended("launched", keep=(given,)) == 1
    os.close(given)
    os.close(kept)


async def test_a_terminals_interrupt_does_not_reach_children(launched: Callable[[str], object]) -> None:
    launched("import os, sys\nsys.exit(os.getpgid(0) == os.getpid())")
    assert await ended("launched") == 1


def test_a_child_dies_with_its_parent(launched: Callable[[str], object], tmp_path: Path) -> None:
    launched(f"import os, time\nopen({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()) + ' ')\ntime.sleep(60)")
    parent = tmp_path / "parent.py"
    parent.write_text(
        "import asyncio\n"
        "from aruntime.control.launcher import LocalLauncher\n"
        "async def main():\n"
        "    LocalLauncher().start('launched', [], [], print)\n"
        "    await asyncio.sleep(60)\n"
        "asyncio.run(main())\n"
    )
    process = subprocess.Popen([sys.executable, str(parent)], env=environment())
    pid = wait_for(tmp_path / "pid")
    process.send_signal(signal.SIGKILL)
    process.wait()
    deadline_s = time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text():
        assert time.monotonic() < deadline_s
        time.sleep(0.02)


def test_a_child_whose_parent_is_gone_already_does_not_begin(launched: Callable[[str], object], tmp_path: Path) -> None:
    launched(f"open({str(tmp_path / 'began')!r}, 'w')")
    late = subprocess.run(
        python("aruntime.control.child", "1", "launched"), env=environment(), capture_output=True, text=True
    )
    assert late.returncode != 0
    assert "the parent is gone" in late.stderr
    assert not (tmp_path / "began").exists()


def test_children_import_nothing_from_the_current_folder(tmp_path: Path) -> None:
    (tmp_path / "aruntime").mkdir()
    (tmp_path / "aruntime" / "__init__.py").write_text("raise SystemExit('the wrong one')")
    right = subprocess.run(
        [*python("aruntime.cli.main"), "--version"], env=environment(), cwd=tmp_path, capture_output=True, text=True
    )
    assert right.stdout.startswith("aruntime")


def wait_for(path: Path) -> int:
    deadline_s = time.monotonic() + 20
    while not (path.exists() and path.read_text().endswith(" ")):
        assert time.monotonic() < deadline_s
        time.sleep(0.02)
    return int(path.read_text())
