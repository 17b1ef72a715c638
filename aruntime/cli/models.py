"""`aruntime models add | list | verify`: what is in a repository, and how a model gets in.

What else there is below `aruntime models`: versions.py (show, remove, schema) and serving.py (of a running server).
"""

import argparse
import asyncio
import contextlib
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from aruntime.cli import serving, versions
from aruntime.cli.options import add_device, add_repository, add_trusted_key, device_settings
from aruntime.cli.output import Row, refusing, tell
from aruntime.control import manifest
from aruntime.control.launch_order import launch_order
from aruntime.control.probe.recording import record
from aruntime.control.repository import ModelVersion, Repository, publish
from aruntime.control.settings import ModelSettings, VersionRefused, VersionSettings, read_settings


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the commands."""
    parser = commands.add_parser(
        "models",
        help="look into a model repository and add to it",
        description="Models in a repository, and on a running server.",
    )
    actions = parser.add_subparsers(required=True, metavar="COMMAND")
    add = actions.add_parser("add", help="publish a Hugging Face folder, or one with model.onnx, as a version")
    add.add_argument("name")
    add.add_argument("folder", type=Path)
    add.add_argument("--version", type=int, metavar="N", help="[the next one]")
    add.add_argument(
        "--golden",
        type=Path,
        metavar="FILE",
        help="prompts, a line of JSON each, whose answers are recorded now and checked at every start",
    )
    add.add_argument("--sign", type=Path, metavar="KEY", help="with this private key (elliptic curve, PEM)")
    add_device(add)
    listing = actions.add_parser("list", help="list models and versions")
    verify = actions.add_parser("verify", help="check every file against its manifest")
    verify.add_argument("name", nargs="?", help="[all models]")
    add_trusted_key(verify)
    for action, run in ((add, _add), (listing, _list), (verify, _verify)):
        add_repository(action)
        action.add_argument("--json", action="store_true", help="one line of JSON for each version")
        action.set_defaults(run=refusing("models", run))
    versions.add_actions(actions)
    serving.add_actions(actions)


def _add(options: argparse.Namespace) -> int:
    if not options.folder.is_dir():
        raise VersionRefused(f"{options.folder} is no folder")
    if options.golden is not None and not options.golden.is_file():
        raise VersionRefused(f"{options.golden} is no file")
    if options.sign is not None and not options.sign.is_file():
        raise VersionRefused(f"{options.sign} is no file")
    total = sum(path.stat().st_size for path in options.folder.iterdir() if path.is_file())
    with _progress(options, f"publishing {options.name}", total) as advance:
        version = publish(
            options.folder,
            options.repository,
            options.name,
            options.version,
            prepare=partial(_record, options) if options.golden else lambda _: None,
            private_key=options.sign,
            progress=advance,
        )
    tell(options, [_facts(version)])
    return 0


def _record(options: argparse.Namespace, draft: Path) -> None:
    """Load the draft as a server with these options would, and record its answers."""
    file = Repository(options.repository).model_file(options.name)
    model = read_settings(file, ModelSettings) if file.exists() else ModelSettings()
    built = read_settings(draft / "version.toml", VersionSettings)
    version = ModelVersion(options.name, options.version or 1, draft, model, built)
    asyncio.run(record(launch_order(version, device_settings(options)), options.golden))


def _list(options: argparse.Namespace) -> int:
    rows = []
    for name, number in _versions(options, None):
        try:
            rows.append(_facts(Repository(options.repository).open(name, number)))
        except VersionRefused as refused:
            rows.append({"model": name, "version": number, "refused": str(refused)})
    tell(options, rows)
    return 0


def _verify(options: argparse.Namespace) -> int:
    rows: list[Row] = []
    for name, number in _versions(options, options.name):
        try:
            version = Repository(options.repository, options.trusted_key).open(name, number)
            with _progress(options, f"verifying {name}@{number}", _bytes(version)) as advance:
                version.verify(advance)
            rows.append({"model": name, "version": number, "verified": True})
        except VersionRefused as refused:
            rows.append({"model": name, "version": number, "verified": False, "refused": str(refused)})
    tell(options, rows)
    return 0 if rows and all(row["verified"] for row in rows) else 1


def _versions(options: argparse.Namespace, name: str | None) -> Iterator[tuple[str, int]]:
    repository = Repository(options.repository)
    for model in [name] if name else repository.models():
        versions = repository.versions(model)
        if not versions:
            raise VersionRefused(f"there is no model {model} in {options.repository}")
        for number in versions:
            yield model, number


def _facts(version: ModelVersion) -> Row:
    built = version.settings
    return {
        "model": version.name,
        "version": version.version,
        "engine": built.engine,
        "precision": built.precision,
        "target": built.target,
        "bytes": _bytes(version),
        "published": built.provenance.published.isoformat(),
        "source": built.provenance.source,
    }


def _bytes(version: ModelVersion) -> int:
    return sum((version.folder / name).stat().st_size for name in manifest.list_files(version.folder))


@contextlib.contextmanager
def _progress(options: argparse.Namespace, what: str, total: int) -> Iterator[manifest.Progress]:
    """A bar on standard error; none for scripts."""
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    silent = options.json or not sys.stderr.isatty()
    with Progress(*columns, console=Console(stderr=True), disable=silent, transient=True) as bar:
        task = bar.add_task(what, total=total)
        yield lambda count: bar.advance(task, count)
