"""The repository: immutable versions of models in folders, and how one gets in.

    <root>/<model>/model.toml                limits; may be absent
    <root>/<model>/<integer>/version.toml    engine, precision, target, provenance
                             config.json *.safetensors tokenizer.json chat_template.jinja …
                             MANIFEST.json   sha256 of every file, written last

A version is published as a temporary folder (its name starts with a dot, so nobody takes it for a version) and renamed:
a reader sees all of it or nothing, and of two publishers of one number the second is refused.
"""

import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from aruntime.base.names import is_name, is_version
from aruntime.control.manifest import Manifest, Progress, list_files, verify, write_manifest
from aruntime.control.settings import ModelSettings, Provenance, VersionRefused, VersionSettings, read_settings

MODELS_MAX = 64
# What a Hugging Face folder holds that a version needs. Pickled weights and code are left behind.
_TAKEN = {".json", ".jsonl", ".safetensors", ".jinja", ".txt", ".model", ".md"}
_FOLDERS_TAKEN = {"golden", "adapters"}


@dataclass(frozen=True, slots=True)
class ModelVersion:
    """One version of one model, with what its files say. Not yet verified."""

    name: str
    version: int
    folder: Path
    model: ModelSettings
    settings: VersionSettings

    def verify(self, progress: Progress = lambda _: None) -> Manifest:
        """Check every file against the manifest. VersionRefused says which one is wrong."""
        return verify(self.folder, progress)


class Repository:
    """Reads the folders below `root` each time it is asked; keeps nothing."""

    def __init__(self, root: Path) -> None:
        self.root = root.resolve()
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
        """The versions of a model, oldest first; none for a name that is not a model's."""
        folder = self.root / name
        if not is_name(name) or folder.is_symlink() or not folder.is_dir():
            return []
        return sorted(int(entry.name) for entry in folder.iterdir() if is_version(entry.name))

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
        return ModelVersion(name, version, folder, model, read_settings(folder / "version.toml", VersionSettings))

    def remove(self, name: str, version: int) -> None:
        """Delete a version: first it is no version any more, for anybody; then its files go. VersionRefused."""
        folder = self.root / name / str(version)
        if version not in self.versions(name) or not folder.is_dir() or folder.is_symlink():
            raise VersionRefused(f"there is no version {version} of {name}")
        grave = Path(tempfile.mkdtemp(prefix=".removed-", dir=folder.parent))
        try:
            folder.rename(grave)
            _sync(folder.parent)
        finally:
            shutil.rmtree(grave)


def default_root() -> Path:
    """The repository that is meant when none is named: ARUNTIME_REPOSITORY, else the example below the current folder.

    No package brings a model along: a server in production must not serve a demo by mistake.
    """
    return Path(os.environ.get("ARUNTIME_REPOSITORY") or "examples/repository")


def publish(
    source: Path,
    repository: Path,
    name: str,
    version: int | None = None,
    *,
    settings: VersionSettings | None = None,
    prepare: Callable[[Path], None] = lambda _: None,
    progress: Progress = lambda _: None,
) -> ModelVersion:
    """Copy a Hugging Face folder into the repository as a version of `name` (the next one unless given).

    VersionRefused when the name or number cannot be used or the folder holds nothing to serve; nothing is left behind.
    `prepare` is called with the draft, which has everything but its manifest; what it adds is published too.
    `progress` is told the bytes as they are hashed.
    """
    if not is_name(name):
        raise VersionRefused(f"{name[:80]!r} cannot name a model: want [a-z0-9][a-z0-9._-]{{0,63}}")
    repository.mkdir(parents=True, exist_ok=True)
    home = Repository(repository)
    number = version if version is not None else max(home.versions(name), default=0) + 1
    if not is_version(str(number)):
        raise VersionRefused(f"{number} cannot be a version: want 1 to 999999999")
    (home.root / name).mkdir(exist_ok=True)
    draft = Path(tempfile.mkdtemp(prefix=".publish-", dir=home.root / name))
    try:
        draft.chmod(0o755)
        _copy(source, draft)
        published = settings or VersionSettings(provenance=_provenance(source))
        (draft / "version.toml").write_text(published.to_toml())
        prepare(draft)
        write_manifest(draft, progress)
        _rename(draft, home.root / name / str(number))
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return home.open(name, number)


def _provenance(source: Path) -> Provenance:
    return Provenance(source=source.name, published=datetime.now(UTC))


def _copy(source: Path, draft: Path) -> None:
    """Copy what a version needs, through links: a download cache is made of them."""
    if not (source / "config.json").is_file():
        raise VersionRefused(f"{source} has no config.json: it is no Hugging Face folder")
    if not any(source.glob("*.safetensors")):
        raise VersionRefused(f"{source} has no *.safetensors: weights in other forms are not served")
    for path in sorted(source.iterdir()):
        if (
            path.is_file()
            and (path.suffix in _TAKEN or path.name.startswith("LICENSE"))
            and path.name != "MANIFEST.json"
        ):
            shutil.copyfile(path, draft / path.name)
        elif path.is_dir() and path.name in _FOLDERS_TAKEN:
            shutil.copytree(path, draft / path.name, copy_function=shutil.copyfile)
    for name in list_files(draft):
        _sync(draft / name)


def _rename(draft: Path, target: Path) -> None:
    _sync(draft)
    try:
        draft.rename(target)
    except OSError:
        raise VersionRefused(
            f"version {target.name} of {target.parent.name} exists already; a version never changes"
        ) from None
    _sync(target.parent)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
