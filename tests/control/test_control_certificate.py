"""Which certificates and keys are taken, and what stays when they are not."""

import os
import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from certificates import RSA, Pair, make_pair

from aruntime.control.certificate import Certificate, CertificateRefused, server_context
from aruntime.queue.post import enclose


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Pair, Pair]:
    """Two that do not belong together."""
    folder = tmp_path_factory.mktemp("pairs")
    return make_pair(folder, "one"), make_pair(folder, "two", RSA)


@pytest.fixture
def files(pairs: tuple[Pair, Pair], tmp_path: Path) -> Pair:
    """The first, where a server would have it."""
    placed = Pair(tmp_path / "cert.pem", tmp_path / "key.pem")
    _place(pairs[0], placed)
    return placed


def test_a_pair_is_what_http2_wants_of_tls(files: Pair) -> None:
    enclosure = enclose(Certificate(*files).pem)
    context = server_context(enclosure)
    os.close(enclosure)
    assert context.minimum_version == ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
    assert context.options & ssl.OP_NO_RENEGOTIATION
    for cipher in context.get_ciphers():
        assert cipher["aead"], cipher
        assert cipher["name"].startswith(("TLS_", "ECDHE-")), cipher


def test_one_file_may_hold_both_and_each_gives_what_it_is_named_for(pairs: tuple[Pair, Pair], files: Pair) -> None:
    one, two = pairs
    both = files.keyfile
    both.write_bytes(two.keyfile.read_bytes() + two.certfile.read_bytes())
    assert Certificate(both, both).pem.count(b"BEGIN CERTIFICATE") == 1
    files.certfile.write_bytes(two.certfile.read_bytes() + one.keyfile.read_bytes())
    assert Certificate(files.certfile, two.keyfile).pem.count(b"PRIVATE KEY") == 2  # its begin and its end


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda files, other: files.certfile.unlink(), "cert.pem cannot be read: No such file"),
        (lambda files, other: files.certfile.write_text("nothing"), "cert.pem holds no certificate"),
        (lambda files, other: files.keyfile.write_bytes(files.certfile.read_bytes()), "key.pem holds no private key"),
        (lambda files, other: files.keyfile.write_bytes(other.keyfile.read_bytes()), "is not that of the certificate"),
        (lambda files, other: _damage(files.certfile), "cannot be used"),
        (lambda files, other: _encrypt(files.keyfile), "without a password"),
        (lambda files, other: files.keyfile.chmod(0o644), "chmod 640 or 600"),
        (lambda files, other: files.keyfile.chmod(0o660), "chmod 640 or 600"),
        (lambda files, other: files.keyfile.write_bytes(bytes(300_000)), "longer than 262144 bytes"),
    ],
)
def test_what_is_no_pair_is_refused_in_words_and_the_last_one_stays(
    pairs: tuple[Pair, Pair], files: Pair, spoil: Callable[[Pair, Pair], object], words: str
) -> None:
    certificate = Certificate(*files)
    good = certificate.pem
    spoil(files, pairs[1])
    with pytest.raises(CertificateRefused, match=words):
        certificate.read()
    assert certificate.pem == good
    assert certificate.trouble
    with pytest.raises(CertificateRefused, match=words):
        Certificate(*files)
    _place(pairs[1], files)
    files.keyfile.chmod(0o640)
    certificate.read()
    assert certificate.pem != good
    assert not certificate.trouble


def test_a_change_is_seen_when_it_has_come_to_rest_and_once(pairs: tuple[Pair, Pair], files: Pair) -> None:
    certificate = Certificate(*files)
    assert not certificate.has_changed()
    _place(pairs[1], files)
    assert [certificate.has_changed() for _ in range(2)] == [False, True]
    certificate.read()
    assert not certificate.has_changed()


def test_without_files_there_is_none_and_nothing_changes() -> None:
    certificate = Certificate()
    assert not certificate.given
    assert not certificate.has_changed()


def _place(pair: Pair, files: Pair) -> None:
    for source, file in zip(pair, files, strict=True):
        file.write_bytes(source.read_bytes())
    files.keyfile.chmod(0o600)


def _damage(certfile: Path) -> None:
    certfile.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def _encrypt(keyfile: Path) -> None:
    command = f"openssl pkey -aes256 -passout pass:secret -in {keyfile} -out {keyfile}.new"
    subprocess.run(command.split(), check=True, capture_output=True)
    os.replace(f"{keyfile}.new", keyfile)
