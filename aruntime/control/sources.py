"""What of a folder becomes a version: a Hugging Face folder as a download leaves it, or one with model.onnx.

Pickled weights and code are left behind, and so is what has no plain name. A link is followed inside the folder, and
into the blobs of the download cache that the folder is a snapshot of; any other may lead to anybody's file.
"""

import shutil
from collections.abc import Iterator
from pathlib import Path

from aruntime.control.manifest import DEPTH_MAX, MANIFEST, is_plain
from aruntime.control.settings import VersionRefused
from aruntime.wire.control import EngineKind

_TAKEN = frozenset([".json", ".jsonl", ".safetensors", ".jinja", ".txt", ".model", ".md"])
# The graph, and the files that hold what is too large for it.
_ONNX_TAKEN = frozenset([".onnx", ".onnx_data", ".data"])
_FOLDERS_TAKEN = frozenset(["golden", "adapters"])


def engine_of(source: Path) -> EngineKind:
    """What serves a folder, by what lies in it."""
    return "onnx" if (source / "model.onnx").is_file() and not any(source.glob("*.safetensors")) else "decoder"


def copy_source(source: Path, draft: Path, engine: EngineKind) -> None:
    """Copy what a version for `engine` needs. VersionRefused: something is missing, or a link leads out."""
    if engine == "onnx":
        if not (source / "model.onnx").is_file():
            raise VersionRefused(f"{source} has no model.onnx")
    elif not (source / "config.json").is_file():
        raise VersionRefused(f"{source} has no config.json: it is no Hugging Face folder")
    elif not any(source.glob("*.safetensors")):
        raise VersionRefused(f"{source} has no *.safetensors: weights in other forms are not served")
    taken = _TAKEN | _ONNX_TAKEN if engine == "onnx" else _TAKEN
    for path in _files(source):
        place = path.relative_to(source)
        wanted = path.suffix in taken or path.name.startswith("LICENSE")
        if wanted and place.as_posix() != MANIFEST and all(map(is_plain, place.parts)):
            _check_link(path, source)
            (draft / place).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, draft / place)


def _files(folder: Path, depth: int = 1) -> Iterator[Path]:
    """The files of a folder, and of those below it that are taken; no folder behind a link."""
    if depth > DEPTH_MAX:
        raise VersionRefused(f"folders more than {DEPTH_MAX} deep")
    for path in sorted(folder.iterdir()):
        if path.is_file():
            yield path
        elif path.is_dir() and not path.is_symlink() and (depth > 1 or path.name in _FOLDERS_TAKEN):
            yield from _files(path, depth + 1)


def _check_link(path: Path, source: Path) -> None:
    home, target = source.resolve(), path.resolve()
    in_cache = home.parent.name == "snapshots" and target.is_relative_to(home.parent.parent / "blobs")
    if not in_cache and not target.is_relative_to(home):
        raise VersionRefused(f"{path.name} is a link out of {source}: put the file itself there")
