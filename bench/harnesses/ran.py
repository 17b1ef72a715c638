"""One command that was run: what it printed, and whether it did what it was run for."""

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True)
class Ran:
    """A command's end; `what` it is in words. `works`: it left with status 0 and said what it says when all is well."""

    what: str
    command: list[str]
    output: str
    works: bool
    seconds: float
    shown_from: str = ""

    @property
    def shown(self) -> str:
        """Its output from the line on that holds `shown_from`, or the last lines where there is none."""
        lines = self.output.splitlines()
        first = next(
            (i for i, line in enumerate(lines) if self.shown_from and self.shown_from in line), len(lines) - 20
        )
        return "\n".join(line.rstrip() for line in lines[max(first, 0) :])


def run(
    what: str,
    command: Sequence[str],
    variables: Mapping[str, str],
    *,
    folder: Path | None = None,
    says: str = "",
    shown_from: str = "",
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
    return Ran(what, list(command), output, status == 0 and says in output, time.monotonic() - started_s, shown_from)
