"""With a trusted key only what its owner signed is loaded, under the name and number that it was signed for."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from control_house import Build
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from aruntime.base.names import ModelRef
from aruntime.control import signatures
from aruntime.control.launcher import environment
from aruntime.control.manifest import write_manifest
from aruntime.control.repository import ModelVersion, Repository, publish
from aruntime.control.settings import VersionRefused

pytest.importorskip("model_signing")
pytest.importorskip("OpenSSL", reason="model-signing imports it")

UNSIGNED = "it is not signed, and only signed versions are trusted here"
WRONG = "model.sig is not the trusted key's signature of this MANIFEST.json"


def write_keys(folder: Path, name: str, key: "ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | None" = None) -> Path:
    """A private key in `name`.pem, its public half in `name`.pub; the path of the first."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    private = folder / f"{name}.pem"
    private.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    private.with_suffix(".pub").write_bytes(
        key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    return private


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    return folder


@pytest.fixture
def private_key(tmp_path: Path) -> Path:
    return write_keys(tmp_path, "release")


@pytest.fixture
def signed(source: Path, tmp_path: Path, private_key: Path) -> ModelVersion:
    """demo@1, opened by a repository that trusts the key."""
    root = tmp_path / "repository"
    publish(source, root, "demo", private_key=private_key)
    return Repository(root, private_key.with_suffix(".pub")).open("demo", 1)


def refusal(version: ModelVersion) -> str:
    with pytest.raises(VersionRefused) as refused:
        version.verify()
    return str(refused.value)


def trusting(version: ModelVersion, key: Path) -> ModelVersion:
    return Repository(version.folder.parent.parent, key).open(version.name, version.version)


def test_a_signed_version_verifies_with_and_without_a_trusted_key(signed: ModelVersion, tmp_path: Path) -> None:
    signed.verify()
    Repository(tmp_path / "repository").open("demo", 1).verify()
    assert "model.sig" not in signed.verify().files


def test_the_signers_own_tool_takes_it(signed: ModelVersion, private_key: Path) -> None:
    command = [
        sys.executable,
        "-P",
        "-m",
        "model_signing",
        "verify",
        "key",
        "MANIFEST.json",
        "--signature",
        "model.sig",
    ]
    command += ["--public_key", str(private_key.with_suffix(".pub"))]
    told = subprocess.run(command, cwd=signed.folder, env=environment(), capture_output=True, text=True, timeout=60)
    assert told.returncode == 0, told.stderr


@pytest.mark.parametrize("curve", [ec.SECP384R1(), ec.SECP521R1()])
def test_other_curves_of_the_family_sign_too(source: Path, tmp_path: Path, curve: ec.EllipticCurve) -> None:
    key = write_keys(tmp_path, "k", ec.generate_private_key(curve))
    publish(source, tmp_path / "r", "demo", private_key=key)
    Repository(tmp_path / "r", key.with_suffix(".pub")).open("demo", 1).verify()


def test_an_unsigned_version_is_refused_where_a_key_is_trusted(
    source: Path, signed: ModelVersion, private_key: Path
) -> None:
    publish(source, signed.folder.parent.parent, "demo", 2)
    version = Repository(signed.folder.parent.parent, private_key.with_suffix(".pub")).open("demo", 2)
    assert refusal(version) == UNSIGNED


def test_a_signature_of_somebody_else_is_refused(signed: ModelVersion, tmp_path: Path) -> None:
    other = write_keys(tmp_path, "other")
    assert refusal(trusting(signed, other.with_suffix(".pub"))) == WRONG
    signatures.sign(signed.folder, other)
    assert refusal(signed) == WRONG


def test_changed_weights_are_refused_even_with_a_manifest_that_fits_them(signed: ModelVersion) -> None:
    (signed.folder / "model.safetensors").write_bytes(b"evil")
    assert "model.safetensors is not the file" in refusal(signed)
    (signed.folder / "MANIFEST.json").unlink()
    write_manifest(signed.folder, "demo", 1)
    assert refusal(signed) == WRONG


def test_a_signed_version_cannot_stand_for_another(source: Path, signed: ModelVersion, private_key: Path) -> None:
    root = signed.folder.parent.parent
    shutil.copytree(signed.folder, root / "demo" / "9")
    shutil.copytree(signed.folder, root / "other" / "1")
    home = Repository(root, private_key.with_suffix(".pub"))
    for name, number in (("demo", 9), ("other", 1)):
        assert refusal(home.open(name, number)) == "it was signed as demo@1, not as this version"


@pytest.mark.parametrize("text", ["", "{}", "[]", "{" * 1000, "\0" * 100, "x" * 70_000])
def test_what_is_no_signature_is_refused(signed: ModelVersion, text: str) -> None:
    (signed.folder / "model.sig").write_text(text)
    assert refusal(signed) in (WRONG, "model.sig is longer than 65536 bytes")


@pytest.mark.parametrize("damage", ["signatures", "payload", "verificationMaterial"])
def test_a_signature_with_a_part_missing_is_refused(signed: ModelVersion, damage: str) -> None:
    path = signed.folder / "model.sig"
    bundle = json.loads(path.read_text())
    if damage == "verificationMaterial":
        del bundle[damage]
    else:
        bundle["dsseEnvelope"][damage] = [] if damage == "signatures" else "e30="
    path.write_text(json.dumps(bundle))
    assert refusal(signed) == WRONG


def test_a_link_in_place_of_the_signature_is_refused(signed: ModelVersion, tmp_path: Path) -> None:
    (signed.folder / "model.sig").rename(tmp_path / "moved.sig")
    (signed.folder / "model.sig").symlink_to(tmp_path / "moved.sig")
    assert refusal(signed) == UNSIGNED


def test_a_second_signature_file_is_no_part_of_the_version(signed: ModelVersion) -> None:
    (signed.folder / "other.sig").write_bytes((signed.folder / "model.sig").read_bytes())
    assert refusal(signed) == "other.sig is not in the manifest"


def test_keys_that_cannot_be_used_are_refused_in_words(source: Path, signed: ModelVersion, tmp_path: Path) -> None:
    wrong = write_keys(tmp_path, "rsa", rsa.generate_private_key(65537, 2048))
    assert refusal(trusting(signed, wrong.with_suffix(".pub"))) == "rsa.pub is no public key of an elliptic curve"
    assert refusal(trusting(signed, tmp_path / "nowhere")) == "nowhere cannot be read: No such file or directory"
    assert refusal(trusting(signed, wrong)) == "rsa.pem is no public key in PEM"
    with pytest.raises(VersionRefused, match=r"rsa\.pem cannot sign: want an elliptic-curve key without a password"):
        publish(source, tmp_path / "repository", "demo", 5, private_key=wrong)
    with pytest.raises(VersionRefused, match=r"rsa\.pub is no private key in PEM"):
        publish(source, tmp_path / "repository", "demo", 5, private_key=wrong.with_suffix(".pub"))
    assert Repository(tmp_path / "repository").versions("demo") == [1]


async def test_a_server_that_trusts_a_key_serves_what_it_signed_and_quarantines_the_rest(
    root: Path, checkpoint: Path, build: Build, private_key: Path
) -> None:
    publish(checkpoint, root, "signed", private_key=private_key)
    agent = await build(root, trusted_key=private_key.with_suffix(".pub")).front_end()
    assert agent.view.resolve(ModelRef("signed")).version == 1
    (entry,) = agent.view.versions("demo")
    assert (entry.state, entry.reason) == ("quarantined", UNSIGNED)


def test_without_the_extra_nothing_is_taken_as_signed(signed: ModelVersion, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "model_signing.verifying", None)
    assert "signatures need the extra aruntime[signing]" in refusal(signed)
