"""Signatures of versions: `model.sig` signs MANIFEST.json, which has the sha256 of every other file.

    private key ──► sign(folder)  ──► model.sig, a sigstore bundle          EC keys (P-256, P-384, P-521) in PEM files
    public key  ──► check(folder) ──► VersionRefused, unless it was signed with the private one

Sigstore's model-signing does it (an extra, imported only when it is needed), so its own command checks them as well:
`model_signing verify key MANIFEST.json --signature model.sig --public_key KEY`. Nothing here needs a network.
"""

from pathlib import Path
from types import ModuleType

from aruntime.control.manifest import MANIFEST, SIGNATURE
from aruntime.control.settings import VersionRefused

_SIGNATURE_BYTES_MAX = 64 * 1024
_KEY_BYTES_MAX = 64 * 1024


def sign(folder: Path, private_key: Path) -> None:
    """Write the signature of the version in `folder`. VersionRefused: the key cannot be used."""
    _check_key(private_key, "-----BEGIN", "PRIVATE KEY-----")
    signing = _model_signing().signing
    try:
        signer = signing.Config().use_elliptic_key_signer(private_key=private_key)
        signer.sign(folder / MANIFEST, folder / SIGNATURE)
    except Exception:  # they come from four libraries, and may quote what they have read
        raise VersionRefused(f"{private_key.name} cannot sign: want an elliptic-curve key without a password") from None


def check(folder: Path, public_key: Path) -> None:
    """Whether the manifest of the version in `folder` was signed with the other half of `public_key`.

    VersionRefused: it was not, or that cannot be told.
    """
    _check_key(public_key, "-----BEGIN", "PUBLIC KEY-----")
    signature = folder / SIGNATURE
    if signature.is_symlink() or not signature.is_file():
        raise VersionRefused("it is not signed, and only signed versions are trusted here")
    if signature.stat().st_size > _SIGNATURE_BYTES_MAX:
        raise VersionRefused(f"{SIGNATURE} is longer than {_SIGNATURE_BYTES_MAX} bytes")
    verifying = _model_signing().verifying
    try:
        verifier = verifying.Config().use_elliptic_key_verifier(public_key=public_key)
    except Exception:
        raise VersionRefused(f"{public_key.name} is no public key of an elliptic curve") from None
    try:
        verifier.verify(folder / MANIFEST, signature)
    except Exception:  # whatever it is, the signature has not been found right
        raise VersionRefused(f"{SIGNATURE} is not the trusted key's signature of this {MANIFEST}") from None


def _check_key(key: Path, *words: str) -> None:
    """Refuse a file that is missing or plainly no such key, before anything else reads it."""
    try:
        with key.open("rb") as file:
            text = file.read(_KEY_BYTES_MAX + 1).decode("ascii", "replace")
    except OSError as error:
        raise VersionRefused(f"{key.name} cannot be read: {error.strerror}") from None
    if len(text) > _KEY_BYTES_MAX or not all(word in text for word in words):
        raise VersionRefused(f"{key.name} is no {words[-1].strip('-').lower()} in PEM")


def _model_signing() -> ModuleType:
    try:
        import model_signing.signing
        import model_signing.verifying
    except ImportError as error:
        raise VersionRefused(
            f"signatures need the extra aruntime[signing], which is not installed whole: no {error.name}"
        ) from None
    return model_signing
