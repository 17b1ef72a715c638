"""`aruntime models show NAME[@VERSION]`: settings, provenance, memory, and every file with its size and digest."""

import argparse

from aruntime.base.names import is_version
from aruntime.cli.options import device_settings
from aruntime.cli.output import Row, tell
from aruntime.control.device_memory import is_cpu
from aruntime.control.launch_order import footprint_of, launch_order
from aruntime.control.manifest import SIGNATURE, read_manifest
from aruntime.control.repository import ModelVersion, Repository
from aruntime.control.residency import in_words
from aruntime.control.settings import VersionRefused


def selected(text: str) -> tuple[str, int | None]:
    """What `name` or `name@version` names."""
    name, at, number = text.partition("@")
    if at and not is_version(number):
        raise VersionRefused(f"{number[:80]!r} cannot be a version: want 1 to 999999999")
    return name, int(number) if at else None


def show(options: argparse.Namespace) -> int:
    """Print one version: two tables for people, one object for scripts."""
    name, number = selected(options.version)
    repository = Repository(options.repository)
    if number is None and not (versions := repository.versions(name)):
        raise VersionRefused(f"there is no model {name} in {options.repository}")
    version = repository.open(name, number if number is not None else versions[-1])
    facts, memory, files = _facts(version), _memory(version, options), _files(version)
    if options.json:
        tell(options, [{**facts, "memory": memory, "files": files}])
        return 0
    words = {f"memory.{key}": in_words(count) for key, count in memory.items()}
    rows: list[Row] = [{"setting": key, "value": value} for key, value in (facts | words).items()]
    tell(options, rows)
    print()
    tell(options, files)
    return 0


def _facts(version: ModelVersion) -> Row:
    """What its two files of settings say, flat: `limits.sequences_max`."""
    facts: Row = {
        "model": version.name, "version": version.version, "signed": (version.folder / SIGNATURE).exists(),
    }  # fmt: skip
    for key, value in [
        *version.settings.model_dump(mode="json").items(),
        *version.model.model_dump(mode="json").items(),
    ]:
        facts |= {f"{key}.{inner}": each for inner, each in value.items()} if isinstance(value, dict) else {key: value}
    return facts


def _memory(version: ModelVersion, options: argparse.Namespace) -> dict[str, int]:
    """Bytes that a server with these options would set aside for it."""
    settings = device_settings(options)
    found = footprint_of(version, launch_order(version, settings), is_cpu(settings.device))
    return {
        "weight_bytes": found.weight_bytes,
        "workspace_bytes": found.workspace_bytes,
        "cache_bytes_min": found.cache_bytes_min,
        "cache_bytes": found.cache_bytes,
    }


def _files(version: ModelVersion) -> list[Row]:
    """As the manifest has them; a size that is missing belongs to a file that is."""
    rows: list[Row] = []
    for name, digest in read_manifest(version.folder).files.items():
        path = version.folder / name
        rows.append({"file": name, "bytes": path.stat().st_size if path.is_file() else None, "sha256": digest})
    return rows
