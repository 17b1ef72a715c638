"""MANIFEST.json: the sha256 of every file of a version, written last and checked before anything is loaded.

    {"model": "demo", "version": 3, "files": {"config.json": "<64 hex digits>", "golden/greet.jsonl": "…"}}

A version holds exactly the files that its manifest names, and perhaps `model.sig`, which signs the manifest: a missing,
changed or additional one is refused, and so is any link, since what it points to can change while the version stands.
"""

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from aruntime.control.settings import VersionRefused

MANIFEST = "MANIFEST.json"
SIGNATURE = "model.sig"
FILES_MAX = 4096
DEPTH_MAX = 8
_MANIFEST_BYTES_MAX = 1 << 20
_CHUNK_BYTES = 1 << 20
# Nothing that looks like another name, hides, or means something to a shell or another file system.
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+ -]{0,127}")

Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Progress = Callable[[int], None]


class Manifest(BaseModel):
    """`MANIFEST.json`: what a version consists of."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)

    model: Annotated[str, Field(max_length=64)] | None = None
    """The model that it was published for."""
    version: Annotated[int, Field(ge=1, le=999_999_999)] | None = None
    """The number that it was published under."""
    files: Annotated[dict[str, Sha256], Field(max_length=FILES_MAX)]
    """The sha256 of each file, by its path in the version's folder, with `/`."""


def is_plain(name: str) -> bool:
    """Whether a file or folder of a version may have this name."""
    return _PLAIN.fullmatch(name) is not None


def list_files(folder: Path) -> list[str]:
    """Every file below `folder` but its manifest and signature, sorted.

    VersionRefused at a link, anything else that is no file, a name that is not plain, and two that differ in case only.
    """
    paths = list(islice(_walk(folder), FILES_MAX + 3))
    names = sorted({path.relative_to(folder).as_posix() for path in paths} - {MANIFEST, SIGNATURE})
    if len(names) > FILES_MAX:
        raise VersionRefused(f"more than {FILES_MAX} files")
    by_case: dict[str, str] = {}
    for name in names:
        if (other := by_case.setdefault(name.lower(), name)) != name:
            raise VersionRefused(f"{other} and {name} differ in case only")
    return names


def write_manifest(folder: Path, model: str, version: int, progress: Progress = lambda _: None) -> None:
    """Hash every file of `folder` and write its manifest. `progress` is told the bytes as they are read."""
    files = {name: _sha256(folder / name, progress) for name in list_files(folder)}
    with (folder / MANIFEST).open("x") as file:
        json.dump({"model": model, "version": version, "files": files}, file, indent=1)
        file.write("\n")
        file.flush()
        os.fsync(file.fileno())


def verify(folder: Path, progress: Progress = lambda _: None) -> Manifest:
    """Check `folder` against its manifest. VersionRefused names the first file that is not as it was published."""
    present = set(list_files(folder))
    manifest = read_manifest(folder)
    for name in sorted(present ^ set(manifest.files)):
        raise VersionRefused(f"{name[:200]} is {'not in the manifest' if name in present else 'missing'}")
    for name, digest in manifest.files.items():
        if _sha256(folder / name, progress) != digest:
            raise VersionRefused(f"{name} is not the file that was published: its sha256 differs")
    return manifest


def read_manifest(folder: Path) -> Manifest:
    """What the manifest of a version says. VersionRefused when it is none."""
    try:
        with (folder / MANIFEST).open("rb") as file:
            data = file.read(_MANIFEST_BYTES_MAX + 1)
        if len(data) > _MANIFEST_BYTES_MAX:
            raise VersionRefused(f"{MANIFEST} is longer than {_MANIFEST_BYTES_MAX} bytes")
        return Manifest.model_validate_json(data)
    except OSError as error:
        raise VersionRefused(f"{MANIFEST} cannot be read: {error.strerror}") from None
    except ValidationError:
        raise VersionRefused(f"{MANIFEST} is not a manifest") from None


def _walk(folder: Path, depth: int = 1) -> Iterator[Path]:
    if depth > DEPTH_MAX:
        raise VersionRefused(f"folders more than {DEPTH_MAX} deep")
    with os.scandir(folder) as entries:
        for entry in entries:
            if not is_plain(entry.name):
                raise VersionRefused(f"{entry.name[:80]!r} cannot name a file of a version: want [A-Za-z0-9._+ -]")
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
