"""`aruntime serve` with the engine of paced_engine.py; takes its arguments."""

import sys
from collections.abc import Callable, Sequence

import aruntime.cli.serve
from aruntime.cli.main import main
from aruntime.control.launcher import LocalChild, LocalLauncher


class PacedLauncher(LocalLauncher):
    """Starts another engine."""

    def start(
        self, module: str, arguments: Sequence[str], keep: Sequence[int], on_end: Callable[[int], None]
    ) -> LocalChild:
        named = "paced_engine" if module == "aruntime.engine.main" else module
        return super().start(named, arguments, keep, on_end)


if __name__ == "__main__":
    aruntime.cli.serve.LocalLauncher = PacedLauncher  # type: ignore[misc]
    sys.exit(main())
