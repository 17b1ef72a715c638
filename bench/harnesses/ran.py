"""One command that was run: what it printed, and whether it did what it was run for."""

import os
import re
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 300.0
TAIL_LINES = 12


@dataclass(frozen=True, slots=True)
class Ran:
    """A command's end; `what` it is in words. `works`: it left with status 0 and said what it says when all is well."""

    what: str
    command: list[str]
    output: str
    works: bool
    seconds: float
    telling: str = ""

    @property
    def shown(self) -> str:
        """Its output from the first line to the last that match `telling`; the last lines when there are none."""
        lines = [line.rstrip() for line in self.output.splitlines()]
        told = [number for number, line in enumerate(lines) if self.telling and re.search(self.telling, line)]
        return "\n".join(lines[told[0] : told[-1] + 1] if told else lines[-TAIL_LINES:])


def run(
    what: str,
    command: Sequence[str],
    variables: Mapping[str, str],
    *,
    folder: Path | None = None,
    says: str = "",
    telling: str = "",
    timeout_s: float = TIMEOUT_S,
) -> Ran:
    """Run `command` in `folder` with `variables` beside the caller's own; `says` must stand in its output."""
    started_s = time.monotonic()
    try:
        ended = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=timeout_s,
        )
        output, status = ended.stdout.replace("\r\n", "\n"), ended.returncode
    except subprocess.TimeoutExpired as late:
        output, status = (late.stdout or b"").decode(errors="replace") + f"\nstill running after {timeout_s} s", 1
    return Ran(what, list(command), output, status == 0 and says in output, time.monotonic() - started_s, telling)
