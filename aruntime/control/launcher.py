"""Starts processes and tells when they end. The default and only launcher so far is this machine.

A process gets a group of its own (a terminal's interrupt is the supervisor's to handle), the descriptors that it is
given and no others, and the supervisor's standard output and error.
"""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from typing import Protocol


class Child(Protocol):
    """A started process."""

    pid: int

    def kill(self) -> None:
        """End it at once. Its end is told like any other."""


class Launcher(Protocol):
    """Starts `module` as a process with `arguments`; `on_end(status)` is called once, in the event loop."""

    def start(
        self, module: str, arguments: Sequence[str], keep: Sequence[int], on_end: Callable[[int], None]
    ) -> Child: ...


class LocalLauncher:
    """Starts processes on this machine; see `aruntime.control.child`."""

    def start(
        self, module: str, arguments: Sequence[str], keep: Sequence[int], on_end: Callable[[int], None]
    ) -> "LocalChild":
        """Start `module`; it inherits the descriptors `keep` under the same numbers."""
        process = subprocess.Popen(
            python("aruntime.control.child", str(os.getpid()), module, *arguments),
            stdin=subprocess.DEVNULL,
            pass_fds=keep,
            env=environment(),
            process_group=0,
        )
        return LocalChild(process, on_end)


class LocalChild:
    """Watches one process through its pidfd: no thread, no signal handler, no reaper that others could disturb."""

    def __init__(self, process: "subprocess.Popen[bytes]", on_end: Callable[[int], None]) -> None:
        self.pid = process.pid
        self._process = process
        self._on_end = on_end
        self._pidfd = os.pidfd_open(process.pid)
        asyncio.get_running_loop().add_reader(self._pidfd, self._ended)

    def kill(self) -> None:
        """End it at once."""
        if self._process.returncode is None:
            signal.pidfd_send_signal(self._pidfd, signal.SIGKILL)

    def _ended(self) -> None:
        asyncio.get_running_loop().remove_reader(self._pidfd)
        status = self._process.wait()  # it has ended: this does not wait
        os.close(self._pidfd)
        self._on_end(status)


def python(module: str, *arguments: str) -> list[str]:
    """The command that runs `module`, from where this process has it and not from the current folder."""
    return [sys.executable, "-P", "-m", module, *arguments]


def environment() -> dict[str, str]:
    """For `python`: a child imports what its parent imports."""
    return os.environ | {"PYTHONPATH": os.pathsep.join(path or os.getcwd() for path in sys.path)}


def describe(status: int) -> str:
    """How a process ended, in words."""
    return f"was killed by signal {-status}" if status < 0 else f"exited with status {status}"
