"""The repository: immutable versions of models in folders, how one gets in, and out.

    <root>/<model>/model.toml                limits; may be absent
    <root>/<model>/<integer>/version.toml    engine, precision, target, provenance
                             config.json *.safetensors tokenizer.json chat_template.jinja …    or    model.onnx …
                             MANIFEST.json   sha256 of every file, written last
                             model.sig       signs the manifest; may be absent

A version is published as a temporary folder (its name starts with a dot, so nobody takes it for a version) and renamed:
a reader sees all of it or nothing, and of two publishers of one number the second is refused. It leaves the same way.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from aruntime.base.names import is_name, is_version
from aruntime.control import signatures
from aruntime.control.manifest import MANIFEST, Manifest, Progress, list_files, verify, write_manifest
from aruntime.control.settings import ModelSettings, Provenance, VersionRefused, VersionSettings, read_settings
from aruntime.control.sources import copy_source, engine_of

MODELS_MAX = 64
VERSIONS_MAX = 1024

_KINDS: dict[str, type[BaseModel]] = {"model.toml": ModelSettings, "version.toml": VersionSettings, MANIFEST: Manifest}


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of one model, with what its files say. Not yet verified."""

    name: str
    version: int
    folder: Path
    model: ModelSettings
    settings: VersionSettings
    trusted_key: Path | None = None

    def verify(self, progress: Progress = lambda _: None) -> Manifest:
        """Check every file against the manifest, and the manifest's signature where only a key is trusted.

        VersionRefused says what is wrong.
        """
        if self.trusted_key is not None:
            signatures.check(self.folder, self.trusted_key)
        manifest = verify(self.folder, progress)
        if self.trusted_key is not None and (manifest.model, manifest.version) != (self.name, self.version):
            raise VersionRefused(f"it was signed as {manifest.model}@{manifest.version}, not as this version")
        return manifest


class Repository:
    """Reads the folders below `root` each time it is asked; keeps nothing.

    With a `trusted_key` (the public half, a PEM file) only versions that it has signed verify.
    """

    def __init__(self, root: Path, trusted_key: Path | None = None) -> None:
        self.root = root.resolve()
        self.trusted_key = trusted_key
        if not self.root.is_dir():
            raise VersionRefused(f"there is no model repository at {root}")

    def models(self) -> list[str]:
        """The names of the models that have a version, sorted. VersionRefused beyond MODELS_MAX."""
        names = sorted(
            folder.name for folder in self.root.iterdir() if is_name(folder.name) and self.versions(folder.name)
        )
        if len(names) > MODELS_MAX:
            raise VersionRefused(f"the repository holds {len(names)} models, at most {MODELS_MAX} are served")
        return names

    @property
    def identity(self) -> str:
        """The same for everybody who looks at this folder from this machine; it tells nobody where it is."""
        found = self.root.stat()
        return f"{found.st_dev:x}-{found.st_ino:x}"

    def versions(self, name: str) -> list[int]:
        """The newest VERSIONS_MAX versions of a model, oldest first; none for a name that is not a model's.

        A folder without a manifest, which is written last, is none yet.
        """
        folder = self.root / name
        if not is_name(name) or folder.is_symlink() or not folder.is_dir():
            return []
        numbers = (int(entry.name) for entry in folder.iterdir() if is_version(entry.name))
        return sorted(number for number in numbers if (folder / str(number) / MANIFEST).is_file())[-VERSIONS_MAX:]

    def model_file(self, name: str) -> Path:
        """The file that says what holds for every version of a model; it may be absent."""
        return self.root / name / "model.toml"

    def read_model(self, name: str) -> ModelSettings:
        """What that file says. VersionRefused when it is not there, or wrong."""
        file = self.model_file(name)
        if file.is_symlink():
            raise VersionRefused("model.toml is a link")
        return read_settings(file, ModelSettings)

    def open(self, name: str, version: int) -> ModelVersion:
        """Read what a version says of itself. VersionRefused says what is wrong."""
        folder = self.root / name / str(version)
        if not is_name(name) or not is_version(str(version)) or not folder.is_dir():
            raise VersionRefused(f"there is no version {version} of {name}")
        if folder.resolve() != folder:
            raise VersionRefused(f"{name}/{version} is a link")
        model = self.read_model(name) if os.path.lexists(self.model_file(name)) else ModelSettings()
        list_files(folder)  # no link, before the first file of it is read
        built = read_settings(folder / "version.toml", VersionSettings)
        return ModelVersion(name, version, folder, model, built, self.trusted_key)


def default_root() -> Path:
    """The repository that is meant when none is named: ARUNTIME_REPOSITORY, else the example below the current folder.

    No package brings a model along: a server in production must not serve a demo by mistake.
    """
    return Path(os.environ.get("ARUNTIME_REPOSITORY") or "examples/repository")


def schemas() -> dict[str, dict[str, Any]]:
    """The JSON Schema of each file that the repository itself has words for, by the file's name."""
    return {name: kind.model_json_schema() for name, kind in _KINDS.items()}


def publish(
    source: Path,
    repository: Path,
    name: str,
    version: int | None = None,
    *,
    settings: VersionSettings | None = None,
    prepare: Callable[[Path], None] = lambda _: None,
    private_key: Path | None = None,
    progress: Progress = lambda _: None,
) -> ModelVersion:
    """Copy a Hugging Face folder, or one with model.onnx, into the repository as a version of `name`.

    It is the next one unless `version` says which. `prepare` is called with the draft, which has everything but its
    manifest; what it adds is published too. `private_key` signs it. `progress` is told the bytes as they are hashed.
    VersionRefused when the name or number cannot be used or the folder holds nothing to serve; nothing is left behind.
    """
    if not is_name(name):
        raise VersionRefused(f"{name[:80]!r} cannot name a model: want [a-z0-9][a-z0-9._-]{{0,63}}")
    repository.mkdir(parents=True, exist_ok=True)
    home = Repository(repository)
    known = home.versions(name)
    number = version if version is not None else max(known, default=0) + 1
    if not is_version(str(number)):
        raise VersionRefused(f"{number} cannot be a version: want 1 to 999999999")
    if len(known) == VERSIONS_MAX:
        raise VersionRefused(f"{name} has {VERSIONS_MAX} versions, and no more are kept: remove some")
    built = settings or VersionSettings(engine=engine_of(source), provenance=_provenance(source))
    (home.root / name).mkdir(exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".publish-", dir=home.root / name))
    try:
        draft.chmod(0o755)
        copy_source(source, draft, built.engine)
        (draft / "version.toml").write_text(built.to_toml())
        prepare(draft)
        write_manifest(draft, name, number, progress)
        if private_key is not None:
            signatures.sign(draft, private_key)
        _sync_all(draft)
        _rename(draft, home.root / name / str(number))
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return home.open(name, number)


def remove(repository: Path, name: str, version: int) -> None:
    """Delete a version that nobody serves. VersionRefused when there is none.

    It is renamed first: whoever reads the repository meanwhile sees all of it or nothing.
    """
    folder = Repository(repository).root / name / str(version)
    if not is_name(name) or not is_version(str(version)) or not folder.is_dir():
        raise VersionRefused(f"there is no version {version} of {name[:80]}")
    if folder.resolve() != folder:
        raise VersionRefused(f"{name}/{version} is a link")
    grave = Path(tempfile.mkdtemp(prefix=".remove-", dir=folder.parent))
    folder.rename(grave)  # over an empty folder: at once
    _sync(folder.parent)
    shutil.rmtree(grave)


def _provenance(source: Path) -> Provenance:
    return Provenance(source=source.resolve().name, published=datetime.now(UTC))


def _rename(draft: Path, target: Path) -> None:
    try:
        draft.rename(target)
    except OSError:
        raise VersionRefused(
            f"version {target.name} of {target.parent.name} exists already; a version never changes"
        ) from None
    _sync(target.parent)


def _sync_all(folder: Path) -> None:
    """Have everything on the disk before it gets its name."""
    for path in [*folder.rglob("*"), folder]:
        _sync(path)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
