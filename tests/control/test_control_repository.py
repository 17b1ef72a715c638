"""What gets into the repository stays as it was published, and what is wrong is refused by name."""

import json
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aruntime.control import repository as repository_room
from aruntime.control.repository import ModelVersion, Repository, publish
from aruntime.control.settings import VersionRefused, VersionSettings, read_settings


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A Hugging Face folder as a download leaves it: links, pickles and code among the files."""
    folder = tmp_path / "download"
    folder.mkdir()
    (tmp_path / "blob").write_bytes(b"weights")
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "modeling_evil.py").write_text("import os")
    (folder / "golden").mkdir()
    (folder / "golden" / "greet.jsonl").write_text("{}\n")
    return folder


@pytest.fixture
def published(source: Path, tmp_path: Path) -> ModelVersion:
    return publish(source, tmp_path / "repository", "demo")


def refusal(version: ModelVersion) -> str:
    with pytest.raises(VersionRefused) as refused:
        version.verify()
    return str(refused.value)


def test_a_published_version_is_found_and_verifies(published: ModelVersion, tmp_path: Path) -> None:
    home = Repository(tmp_path / "repository")
    assert home.models() == ["demo"]
    assert home.versions("demo") == [1]
    version = home.open("demo", 1)
    version.verify()
    assert version.settings.provenance.source == "download"
    assert version.settings.created_s > 1_700_000_000
    assert version.model.limits.sequences_max == 64


def test_pickles_and_code_stay_outside(published: ModelVersion) -> None:
    files = {path.relative_to(published.folder).as_posix() for path in published.folder.rglob("*") if path.is_file()}
    assert files == {"config.json", "model.safetensors", "golden/greet.jsonl", "version.toml", "MANIFEST.json"}


def test_the_next_version_counts_up_and_a_version_never_changes(source: Path, tmp_path: Path) -> None:
    root = tmp_path / "repository"
    assert publish(source, root, "demo", 7).version == 7
    assert publish(source, root, "demo").version == 8
    with pytest.raises(VersionRefused, match="exists already"):
        publish(source, root, "demo", 7)
    assert sorted(os.listdir(root / "demo")) == ["7", "8"]


def test_a_publish_that_breaks_leaves_nothing(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(repository_room, "write_manifest", full)
    with pytest.raises(OSError, match="disk full"):
        publish(source, tmp_path / "repository", "demo")
    assert os.listdir(tmp_path / "repository" / "demo") == []
    assert Repository(tmp_path / "repository").models() == []


@given(name=st.one_of(st.sampled_from(["..", "../x", "a/b", "/etc", "A", "", "a" * 65, "a..b", ".a"]), st.text()))
def test_no_name_leaves_the_repository(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.getbasetemp() / "names"
    (root / "x" / "1").mkdir(parents=True, exist_ok=True)
    home = Repository(root)
    if name != "x":
        assert home.versions(name) == []
        with pytest.raises(VersionRefused):
            home.open(name, 1)


def test_a_changed_file_is_refused(published: ModelVersion) -> None:
    (published.folder / "model.safetensors").write_bytes(b"weighty")
    assert refusal(published) == "model.safetensors is not the file that was published: its sha256 differs"


def test_a_missing_and_an_additional_file_are_refused(published: ModelVersion) -> None:
    (published.folder / "golden" / "more.jsonl").write_text("{}")
    assert refusal(published) == "golden/more.jsonl is not in the manifest"
    (published.folder / "golden" / "more.jsonl").unlink()
    (published.folder / "config.json").unlink()
    assert refusal(published) == "config.json is missing"


def test_a_link_is_refused_even_to_the_same_bytes(published: ModelVersion, tmp_path: Path) -> None:
    weights = published.folder / "model.safetensors"
    weights.rename(tmp_path / "moved")
    weights.symlink_to(tmp_path / "moved")
    assert refusal(published) == "model.safetensors is a link or no plain file"
    with pytest.raises(VersionRefused, match="link"):
        Repository(tmp_path / "repository").open("demo", 1)


def test_a_linked_folder_and_folders_without_end_are_refused(published: ModelVersion, tmp_path: Path) -> None:
    (published.folder / "golden").rename(tmp_path / "golden")
    (published.folder / "golden").symlink_to(tmp_path / "golden")
    assert refusal(published) == "golden is a link or no plain file"
    (published.folder / "golden").unlink()
    (published.folder / "/".join("d" * 9)).mkdir(parents=True)
    assert refusal(published) == "folders more than 8 deep"


def test_a_linked_model_toml_is_refused(published: ModelVersion, tmp_path: Path) -> None:
    (tmp_path / "elsewhere.toml").write_text("")
    (published.folder.parent / "model.toml").symlink_to(tmp_path / "elsewhere.toml")
    with pytest.raises(VersionRefused, match=r"model.toml is a link"):
        Repository(tmp_path / "repository").open("demo", 1)


def test_a_linked_version_or_model_is_refused(published: ModelVersion, tmp_path: Path) -> None:
    home = Repository(tmp_path / "repository")
    (published.folder.parent / "2").symlink_to(published.folder)
    with pytest.raises(VersionRefused, match="demo/2 is a link"):
        home.open("demo", 2)
    (home.root / "alias").symlink_to(published.folder.parent)
    assert home.versions("alias") == []


@pytest.mark.parametrize("text", ["", "[]", '{"files": {"../config.json": "0"}}', '{"files": {}, "x": 1}', "{" * 5000])
def test_a_broken_manifest_is_refused(published: ModelVersion, text: str) -> None:
    (published.folder / "MANIFEST.json").write_text(text)
    assert refusal(published) == "MANIFEST.json is not a manifest"


def test_a_manifest_cannot_name_a_file_outside(published: ModelVersion) -> None:
    path = published.folder / "MANIFEST.json"
    manifest = json.loads(path.read_text())
    manifest["files"]["../../../blob"] = "0" * 64
    path.write_text(json.dumps(manifest))
    assert refusal(published) == "../../../blob is missing"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[limits]\nsequence_max = 3", "limits.sequence_max"),
        ("[limits]\nsequences_max = 0", "limits.sequences_max"),
        ("[limits]\nsequences_max = true", "limits.sequences_max"),
        ("[limits", "not TOML"),
        ("#" * 70_000, "longer than"),
    ],
)
def test_a_wrong_model_toml_is_refused_by_its_key(
    published: ModelVersion, tmp_path: Path, text: str, words: str
) -> None:
    (published.folder.parent / "model.toml").write_text(text)
    with pytest.raises(VersionRefused, match=words):
        Repository(tmp_path / "repository").open("demo", 1)


@given(source_name=st.text(max_size=100), target=st.sampled_from(["any", "cpu", "cuda"]))
def test_version_settings_survive_their_file(
    source_name: str, target: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    document = {"target": target, "provenance": {"source": source_name, "published": "2026-11-24T12:00:00Z"}}
    settings = VersionSettings.model_validate_json(json.dumps(document))
    path = tmp_path_factory.getbasetemp() / "version.toml"
    path.write_text(settings.to_toml())
    again = read_settings(path, VersionSettings)
    assert again.created_s == settings.created_s == 1795521600
    assert again.target == target


def test_a_folder_without_safetensors_is_refused(source: Path, tmp_path: Path) -> None:
    (source / "model.safetensors").unlink()
    with pytest.raises(VersionRefused, match=r"no \*\.safetensors"):
        publish(source, tmp_path / "repository", "demo")
