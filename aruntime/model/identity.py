"""What a version's folder holds at this moment, as digests: for the handshake (`aruntime.wire.compatibility`).

Weights are many gigabytes and were hashed when the version was verified; here the manifest's word is taken for them.
The tokenizer and its template are hashed again, by whoever has read them.
"""

import hashlib
from pathlib import Path

from aruntime.model.fields import Fields
from aruntime.wire.compatibility import TOKENIZER_FILES, tokenizer_digest, weights_digest

_MANIFEST_BYTES_MAX = 1 << 20


def weights_of(folder: Path) -> str:
    """The digest of the weights that the manifest names; of none while there is no manifest, as in a draft.

    CheckpointRefused when it cannot be read.
    """
    if not (folder / "MANIFEST.json").is_file():
        return weights_digest({})
    files = Fields.from_file(folder / "MANIFEST.json", _MANIFEST_BYTES_MAX).object("files")
    return weights_digest({name: files.text(name) for name in files.names()})


def tokenizer_of(folder: Path) -> str:
    """The digest of the tokenizer and the template that lie in the folder."""
    there = [folder / name for name in TOKENIZER_FILES if (folder / name).is_file()]
    return tokenizer_digest({path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in there})
