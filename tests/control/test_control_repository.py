"""What gets into the repository stays as it was published, and what is wrong is refused by name."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aruntime.control import repository as repository_room
from aruntime.control.launcher import environment
from aruntime.control.manifest import FILES_MAX
from aruntime.control.repository import ModelVersion, Repository, publish, remove, schemas
from aruntime.control.settings import VersionRefused, VersionSettings, read_settings


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A Hugging Face folder as a download leaves it: links into the cache, pickles and code among the files."""
    folder = tmp_path / "models--demo" / "snapshots" / "0a1b2c"
    (folder / "golden").mkdir(parents=True)
    blobs = tmp_path / "models--demo" / "blobs"
    blobs.mkdir()
    (blobs / "w").write_bytes(b"weights")
    (blobs / "g").write_text("{}\n")
    (folder / "model.safetensors").symlink_to("../../blobs/w")
    (folder / "golden" / "greet.jsonl").symlink_to("../../../blobs/g")
    (folder / "config.json").write_text("{}")
    (folder / "pytorch_model.bin").write_bytes(b"a pickle")
    (folder / "modeling_evil.py").write_text("import os")
    (folder / "golden" / "answers.pkl").write_bytes(b"another pickle")
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
    assert version.settings.provenance.source == "0a1b2c"
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
    assert Repository(tmp_path / "repository").models() == []


def test_a_folder_with_a_graph_becomes_a_tensor_model(tmp_path: Path) -> None:
    source = tmp_path / "graph"
    source.mkdir()
    for name in ("model.onnx", "model.onnx_data", "weights.data", "README.md", "infer.py", "legacy.bin"):
        (source / name).write_text(name)
    version = publish(source, tmp_path / "repository", "edges")
    version.verify()
    assert version.settings.engine == "onnx"
    files = {path.name for path in version.folder.iterdir()}
    assert files == {"model.onnx", "model.onnx_data", "weights.data", "README.md", "version.toml", "MANIFEST.json"}


def test_what_is_prepared_in_the_draft_is_published(source: Path, tmp_path: Path) -> None:
    def prepare(draft: Path) -> None:
        assert draft.name.startswith(".")
        assert Repository(tmp_path / "repository").versions("demo") == []
        (draft / "golden" / "recorded.jsonl").write_text("{}\n")

    version = publish(source, tmp_path / "repository", "demo", prepare=prepare)
    assert "golden/recorded.jsonl" in version.verify().files
    assert version.verify().model == "demo"


@pytest.mark.parametrize("place", ["tokenizer.json", "golden/mine.jsonl"])
def test_a_link_out_of_the_folder_is_not_followed(source: Path, tmp_path: Path, place: str) -> None:
    (tmp_path / "id_rsa").write_text("secret")
    (source / place).symlink_to(tmp_path / "id_rsa")
    with pytest.raises(VersionRefused, match="is a link out of"):
        publish(source, tmp_path / "repository", "demo")
    assert os.listdir(tmp_path / "repository" / "demo") == []


def test_a_linked_folder_and_a_loop_of_links_are_left_behind(source: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "x.jsonl").write_text("{}")
    (source / "golden" / "more").symlink_to(tmp_path / "elsewhere")
    (source / "golden" / "again").symlink_to(source / "golden")
    (source / "adapters").symlink_to(tmp_path / "elsewhere")
    assert "x.jsonl" not in str(publish(source, tmp_path / "repository", "demo").verify().files)


@pytest.mark.parametrize(
    "name",
    ["conﬁg.json", "cafe\u0301.json", "a\u202ejson.txt", ".hidden.json", "-rf.json", "a\nb.json", "x" * 200 + ".json"],
)
def test_names_that_are_not_plain_stay_outside_and_are_refused_inside(source: Path, tmp_path: Path, name: str) -> None:
    (source / name).write_text("{}")
    version = publish(source, tmp_path / "repository", "demo")
    assert name not in version.verify().files
    (version.folder / name).write_text("{}")
    assert "cannot name a file of a version" in refusal(version)


def test_two_files_that_differ_in_case_only_are_refused(source: Path, tmp_path: Path) -> None:
    (source / "Config.json").write_text("{}")
    with pytest.raises(VersionRefused, match=r"Config\.json and config\.json differ in case only"):
        publish(source, tmp_path / "repository", "demo")


def test_names_of_models_are_told_apart_by_more_than_case(source: Path, tmp_path: Path) -> None:
    with pytest.raises(VersionRefused, match="cannot name a model"):
        publish(source, tmp_path / "repository", "Demo")
    publish(source, tmp_path / "repository", "demo")
    (tmp_path / "repository" / "demo").rename(tmp_path / "repository" / "DEMO")
    assert Repository(tmp_path / "repository").models() == []


def test_a_folder_is_no_version_before_its_manifest_is_there(published: ModelVersion, tmp_path: Path) -> None:
    home = Repository(tmp_path / "repository")
    copy = published.folder.parent / "2"
    copy.mkdir()
    for file in sorted(published.folder.rglob("*")):
        place = copy / file.relative_to(published.folder)
        assert home.versions("demo") == [1]
        if file.is_dir():
            place.mkdir()
        elif file.name != "MANIFEST.json":
            place.write_bytes(file.read_bytes())
    (copy / "MANIFEST.json").write_bytes((published.folder / "MANIFEST.json").read_bytes())
    assert home.versions("demo") == [1, 2]
    home.open("demo", 2).verify()


def test_more_files_than_a_version_may_have_are_refused(published: ModelVersion) -> None:
    for number in range(FILES_MAX):
        (published.folder / "golden" / f"{number}.jsonl").touch()
    assert refusal(published) == f"more than {FILES_MAX} files"


def test_a_huge_manifest_is_not_read(published: ModelVersion) -> None:
    (published.folder / "MANIFEST.json").write_text('{"files": {' + " " * (1 << 20) + "}}")
    assert refusal(published) == "MANIFEST.json is longer than 1048576 bytes"


def test_what_never_ends_is_not_opened(published: ModelVersion) -> None:
    (published.folder / "MANIFEST.json").unlink()
    os.mkfifo(published.folder / "MANIFEST.json")
    assert refusal(published) == "MANIFEST.json is a link or no plain file"


def test_of_two_publishers_of_one_number_one_is_refused_and_the_version_is_whole(source: Path, tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from aruntime.control.repository import publish\n"
        "def prepare(draft):\n"
        "    (draft / 'README.md').write_text(sys.argv[3])\n"
        "    print('prepared', flush=True); sys.stdin.readline()\n"
        "publish(Path(sys.argv[1]), Path(sys.argv[2]), 'demo', 7, prepare=prepare)\n"
    )
    root = tmp_path / "repository"
    publishers = [
        subprocess.Popen(
            [sys.executable, "-P", "-c", script, str(source), str(root), mark],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(),
        )
        for mark in ("first", "second")
    ]  # fmt: skip
    for publisher in publishers:
        assert publisher.stdout is not None
        assert publisher.stdout.readline() == "prepared\n"
    told = [publisher.communicate("\n", timeout=30)[1] for publisher in publishers]
    assert sorted(publisher.returncode for publisher in publishers) == [0, 1]
    assert "version 7 of demo exists already; a version never changes" in "".join(told)
    version = Repository(root).open("demo", 7)
    version.verify()
    assert (version.folder / "README.md").read_text() == ("first" if publishers[0].returncode == 0 else "second")
    assert os.listdir(root / "demo") == ["7"]


def test_a_model_has_a_bounded_number_of_versions(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repository_room, "VERSIONS_MAX", 2)
    root = tmp_path / "repository"
    publish(source, root, "demo")
    publish(source, root, "demo")
    with pytest.raises(VersionRefused, match="demo has 2 versions, and no more are kept"):
        publish(source, root, "demo")
    remove(root, "demo", 1)
    assert publish(source, root, "demo").version == 3


def test_a_removed_version_is_gone_at_once_and_the_others_stay(source: Path, tmp_path: Path) -> None:
    root = tmp_path / "repository"
    publish(source, root, "demo")
    publish(source, root, "demo")
    remove(root, "demo", 1)
    assert Repository(root).versions("demo") == [2]
    assert os.listdir(root / "demo") == ["2"]
    Repository(root).open("demo", 2).verify()


def test_a_removal_that_breaks_leaves_no_half_version(
    published: ModelVersion, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(_: object) -> None:
        raise OSError("input/output error")

    monkeypatch.setattr(repository_room.shutil, "rmtree", broken)
    with pytest.raises(OSError, match="input/output"):
        remove(tmp_path / "repository", "demo", 1)
    assert Repository(tmp_path / "repository").models() == []


@pytest.mark.parametrize(("name", "version"), [("demo", 2), ("..", 1), ("demo/1/../..", 1), ("demo", 0), ("nobody", 1)])
def test_only_a_version_can_be_removed(published: ModelVersion, tmp_path: Path, name: str, version: int) -> None:
    with pytest.raises(VersionRefused, match="there is no version"):
        remove(tmp_path / "repository", name, version)
    published.verify()


def test_a_link_in_place_of_a_version_is_not_removed(published: ModelVersion, tmp_path: Path) -> None:
    (published.folder.parent / "2").symlink_to(published.folder)
    with pytest.raises(VersionRefused, match="demo/2 is a link"):
        remove(tmp_path / "repository", "demo", 2)
    published.verify()


def test_every_setting_is_described_in_its_schema() -> None:
    found = schemas()
    assert set(found) == {"model.toml", "version.toml", "MANIFEST.json"}
    for schema in found.values():
        for table in [schema, *schema.get("$defs", {}).values()]:
            assert table["additionalProperties"] is False
            assert table["description"]
            assert [name for name, field in table["properties"].items() if not field.get("description")] == []
    assert found["model.toml"]["$defs"]["Limits"]["properties"]["sequences_max"]["maximum"] == 4096
