"""MANIFEST.json: the sha256 of every file of a version, written last and checked before anything is loaded.

    {"files": {"config.json": "<64 hex digits>", "golden/greet.jsonl": "…"}}

A version holds exactly the files that its manifest names: a missing, changed or additional one is refused, and so is
any link, since what it points to can change while the version stands.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aruntime.control.settings import VersionRefused

MANIFEST = "MANIFEST.json"
FILES_MAX = 4096
DEPTH_MAX = 8
_MANIFEST_BYTES_MAX = 1 << 20
_CHUNK_BYTES = 1 << 20

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Progress = Callable[[int], None]


class Manifest(BaseModel):
    """`MANIFEST.json`: what files a version has. Paths are relative to its folder, with `/`."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    files: Annotated[dict[str, Sha256], Field(max_length=FILES_MAX)]
    """The sha256 of each, in hex."""


def list_files(folder: Path) -> list[str]:
    """Every file below `folder` but its manifest, sorted. VersionRefused at a link or anything else that is no file."""
    names = sorted(path.relative_to(folder).as_posix() for path in _walk(folder))
    if len(names) > FILES_MAX + 1:
        raise VersionRefused(f"more than {FILES_MAX} files")
    return [name for name in names if name != MANIFEST]


def write_manifest(folder: Path, progress: Progress = lambda _: None) -> None:
    """Hash every file of `folder` and write its manifest. `progress` is told the bytes as they are read."""
    files = {name: _sha256(folder / name, progress) for name in list_files(folder)}
    with (folder / MANIFEST).open("x") as file:
        json.dump({"files": files}, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def verify(folder: Path, progress: Progress = lambda _: None) -> Manifest:
    """Check `folder` against its manifest. VersionRefused names the first file that is not as it was published."""
    manifest = read_manifest(folder)
    present = set(list_files(folder))
    for name in sorted(present ^ set(manifest.files)):
        raise VersionRefused(f"{name} is {'not in the manifest' if name in present else 'missing'}")
    for name, digest in manifest.files.items():
        if _sha256(folder / name, progress) != digest:
            raise VersionRefused(f"{name} is not the file that was published: its sha256 differs")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """What the manifest of `folder` says; nothing is checked against it. VersionRefused when it cannot be read."""
    try:
        with (folder / MANIFEST).open("rb") as file:
            data = file.read(_MANIFEST_BYTES_MAX + 1)
        return Manifest.model_validate_json(data[: _MANIFEST_BYTES_MAX + 1])
    except OSError as error:
        raise VersionRefused(f"{MANIFEST} cannot be read: {error.strerror}") from None
    except ValidationError:
        raise VersionRefused(f"{MANIFEST} is not a manifest") from None


def _walk(folder: Path, depth: int = 1) -> Iterator[Path]:
    if depth > DEPTH_MAX:
        raise VersionRefused(f"folders more than {DEPTH_MAX} deep")
    with os.scandir(folder) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(Path(entry.path), depth + 1)
            elif entry.is_file(follow_symlinks=False):
                yield Path(entry.path)
            else:
                raise VersionRefused(f"{entry.name} is a link or no plain file")


def _sha256(path: Path, progress: Progress) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            digest.update(chunk)
            progress(len(chunk))
    return digest.hexdigest()
