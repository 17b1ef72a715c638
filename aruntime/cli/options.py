"""Options that several commands share. Each has an environment variable, which plain hypercorn uses too."""

import argparse
import os
from dataclasses import replace
from pathlib import Path

from aruntime.control.host import Settings
from aruntime.control.journal import default_path
from aruntime.control.kept import answers_beside
from aruntime.control.repository import default_root

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def add_repository(parser: argparse.ArgumentParser) -> None:
    """--repository."""
    parser.add_argument(
        "--repository",
        type=Path,
        default=default_root(),
        metavar="DIR",
        help="the model repository [ARUNTIME_REPOSITORY; %(default)s]",
    )


def add_tenants(parser: argparse.ArgumentParser, default: Path | None = None) -> None:
    """--tenants."""
    named = os.environ.get("ARUNTIME_TENANTS") or default
    unless_given = "%(default)s" if named else "this machine only"
    parser.add_argument(
        "--tenants",
        type=Path,
        default=named and Path(named),
        metavar="FILE",
        help=f"who may ask, with which keys and on what terms [ARUNTIME_TENANTS; {unless_given}]",
    )


def add_trusted_key(parser: argparse.ArgumentParser) -> None:
    """--trusted-key."""
    named = os.environ.get("ARUNTIME_TRUSTED_KEY")
    parser.add_argument(
        "--trusted-key",
        type=Path,
        default=named and Path(named),
        metavar="FILE",
        help="take only versions signed with the other half of this public key [ARUNTIME_TRUSTED_KEY; any version]",
    )


def add_engine(parser: argparse.ArgumentParser) -> None:
    """What engines run on, and for how long after the end."""
    add_device(parser)
    parser.add_argument(
        "--memory",
        type=size,
        default=os.environ.get("ARUNTIME_MEMORY"),
        metavar="SIZE",
        help="of the device, for all models together [ARUNTIME_MEMORY; most of what is free]",
    )
    parser.add_argument(
        "--journal",
        type=Path,
        metavar="FILE",
        help="where it is kept what runs [ARUNTIME_JOURNAL; a file of this user's for each repository]",
    )
    add_trusted_key(parser)
    parser.add_argument(
        "--drain-timeout",
        type=seconds,
        default=30.0,
        metavar="S",
        help="how long requests in flight may take once the server is told to stop [%(default)s]",
    )
    parser.add_argument("--log-level", choices=["debug", "info", "warning", "error"], default="info")


def add_device(parser: argparse.ArgumentParser) -> None:
    """--device, --threads, --cache-bytes."""
    threads = os.environ.get("ARUNTIME_THREADS") or len(os.sched_getaffinity(0))
    parser.add_argument(
        "--device",
        choices=["auto", "cpu", "cuda"],
        default=os.environ.get("ARUNTIME_DEVICE") or "auto",
        help="where models run [ARUNTIME_DEVICE; %(default)s]",
    )
    parser.add_argument(
        "--threads",
        type=at_least_one,
        default=at_least_one(str(threads)),
        metavar="N",
        help="threads of each CPU engine [ARUNTIME_THREADS; %(default)s]",
    )
    parser.add_argument(
        "--cache-bytes",
        type=size,
        default=os.environ.get("ARUNTIME_CACHE_BYTES") or "256M",
        metavar="SIZE",
        help="keys and values of each model that does not say itself; K, M, G [ARUNTIME_CACHE_BYTES; %(default)s]",
    )


def device_settings(options: argparse.Namespace) -> Settings:
    """What a command needs of them that serves nothing, so that it has nothing to drain or remember."""
    return Settings(
        repository=options.repository,
        device=options.device,
        threads=options.threads,
        cache_bytes=options.cache_bytes,
        drain_timeout_s=0.0,
    )


def settings(options: argparse.Namespace) -> Settings:
    """What the supervisor needs of them."""
    return replace(
        device_settings(options),
        drain_timeout_s=options.drain_timeout,
        memory_bytes=options.memory,
        journal=options.journal or default_path(options.repository),
        trusted_key=options.trusted_key,
    )


def answers_path(options: argparse.Namespace) -> Path:
    """Where the front ends keep answers: beside the journal."""
    return answers_beside(options.journal or default_path(options.repository))


def size(text: str) -> int:
    """Bytes: "64M" is 64 MiB."""
    number, unit = (text[:-1], text[-1].upper()) if text[-1:].isalpha() else (text, "")
    if unit not in _UNITS or not number.isdecimal() or int(number) < 1:
        raise argparse.ArgumentTypeError(f"want a size such as 256M, got {text!r}")
    return int(number) * _UNITS[unit]


def at_least_one(text: str) -> int:
    """A count."""
    if not text.isdecimal() or not 1 <= int(text) <= 1024:
        raise argparse.ArgumentTypeError(f"want 1 to 1024, got {text!r}")
    return int(text)


def seconds(text: str) -> float:
    """A duration, finite and not negative."""
    value = float(text)
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"want 0 to 86400 seconds, got {text!r}")
    return value


def port(text: str) -> int:
    """A port, or 0 for any free one."""
    if not text.isdecimal() or int(text) > 65_535:
        raise argparse.ArgumentTypeError(f"want 0 to 65535, got {text!r}")
    return int(text)
