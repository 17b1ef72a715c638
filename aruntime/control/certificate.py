"""The certificate of the public listener and its key: read at start, and again when one of the files changes.

    files ──► the supervisor: do they belong together? ──yes──► every front end, as one sealed memory file
                                                       ──no───► it is told, and the last good pair stays

The files are replaced one after the other; a pair that does not match in between heals when the second one is there. A
front end that starts gets the last good pair, whatever the files hold then, and needs no right to read the key.
"""

import os
import re
import ssl
from pathlib import Path

from aruntime.control.watched import WatchedFile
from aruntime.queue.post import enclose

ALPN = ["h2", "http/1.1"]
# Ephemeral keys and authenticated encryption: what RFC 9113, 9.2.2, leaves of TLS 1.2. TLS 1.3 has nothing else.
_CIPHERS = "ECDHE+AESGCM:ECDHE+CHACHA20"
_FILE_BYTES_MAX = 256 * 1024
_MISMATCHES = ("KEY_VALUES_MISMATCH", "NO_CERTIFICATE_ASSIGNED")  # OpenSSL: another key; one of another kind
_CERTIFICATES = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)
_KEY = re.compile(rb"-----BEGIN (?P<kind>[A-Z ]*PRIVATE KEY)-----.+?-----END (?P=kind)-----\n?", re.DOTALL)


class CertificateRefused(ValueError):
    """The pair cannot be used; the message says why, in words for its owner."""


class Certificate:
    """The pair in `certfile` and `keyfile`; without them there is none, and it never changes.

    `pem` is the last good pair; `trouble`, in words for anybody, when what the files hold now was not taken.
    """

    def __init__(self, certfile: Path | None = None, keyfile: Path | None = None) -> None:
        self.pem = b""
        self.trouble = ""
        self._paths = (certfile, keyfile)
        self._files = [WatchedFile(path) for path in self._paths]
        self.read()

    @property
    def given(self) -> bool:
        """Whether there is one."""
        return bool(self.pem)

    def has_changed(self) -> bool:
        """Whether one of the files is another than was read, and nobody is writing it now."""
        return any([file.has_changed() for file in self._files])

    def read(self) -> None:
        """Read the files. CertificateRefused when they are not as they must be; the pair then stays as it was."""
        certfile, keyfile = self._paths
        if certfile is None or keyfile is None:
            return
        for file in self._files:
            file.begin_reading()
        try:
            self.pem = _pair(certfile, keyfile)
        except CertificateRefused:
            self.trouble = "an older one is used: what the files hold now was refused, and the log says why"
            raise
        self.trouble = ""


def server_context(pem_fd: int) -> ssl.SSLContext:
    """TLS with the pair in a memory file, as HTTP/2 wants it. OSError (ssl.SSLError is one) when it is no pair."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(_CIPHERS)
    context.set_alpn_protocols(ALPN)
    context.load_cert_chain(f"/proc/self/fd/{pem_fd}", password="")  # an encrypted key is refused, not asked for
    return context


def _pair(certfile: Path, keyfile: Path) -> bytes:
    """The key and the certificates of both files, which belong together."""
    chain = b"".join(_CERTIFICATES.findall(_read(certfile, 0)))
    key = _KEY.search(_read(keyfile, 0o027))
    if not chain:
        raise CertificateRefused(f"{certfile} holds no certificate")
    if key is None:
        raise CertificateRefused(f"{keyfile} holds no private key")
    pem = key[0] + b"\n" + chain
    enclosure = enclose(pem)
    try:
        server_context(enclosure)
    except OSError as error:
        if isinstance(error, ssl.SSLError) and error.reason in _MISMATCHES:
            raise CertificateRefused(f"the key in {keyfile} is not that of the certificate in {certfile}") from None
        raise CertificateRefused(
            f"{certfile} and {keyfile} cannot be used; the key must be without a password"
        ) from None
    finally:
        os.close(enclosure)
    return pem


def _read(path: Path, forbidden: int) -> bytes:
    """A file whose mode has none of the bits `forbidden`."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            text = file.read(_FILE_BYTES_MAX + 1)
    except OSError as error:
        raise CertificateRefused(f"{path} cannot be read: {error.strerror}") from None
    if mode & forbidden:
        raise CertificateRefused(f"{path}: everybody may read it, or others write it (mode {mode:o}): chmod 640 or 600")
    if len(text) > _FILE_BYTES_MAX:
        raise CertificateRefused(f"{path} is longer than {_FILE_BYTES_MAX} bytes")
    return text
