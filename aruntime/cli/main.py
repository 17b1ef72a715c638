"""The command line: `aruntime serve`, `models`, `tenants`; for a running server `rollout`, `front-ends`, `audit`."""

import argparse
import sys
from importlib.metadata import PackageNotFoundError, version

from aruntime.cli import audit, front_ends, models, rollout, serve, tenants


def main(arguments: list[str] | None = None) -> int:
    """Run one command; the process's exit status."""
    parser = argparse.ArgumentParser(prog="aruntime", description="A model-serving runtime for language models.")
    parser.add_argument("--version", action="version", version=f"aruntime {_version()}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    for command in (serve, models, tenants, rollout, front_ends, audit):
        command.add_parser(commands)
    options = parser.parse_args(arguments)
    status: int = options.run(options)
    return status


def _version() -> str:
    try:
        return version("aruntime")
    except PackageNotFoundError:
        return "(not installed)"


if __name__ == "__main__":
    sys.exit(main())
