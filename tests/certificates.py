"""Certificates for 127.0.0.1 that nobody has signed but themselves, made by openssl."""

import shutil
import subprocess
from pathlib import Path
from typing import NamedTuple

import pytest

RSA = ("rsa:2048",)
EC = ("ec", "-pkeyopt", "ec_paramgen_curve:P-256")


class Pair(NamedTuple):
    """A certificate and its key, in PEM."""

    certfile: Path
    keyfile: Path


def make_pair(folder: Path, name: str, kind: tuple[str, ...] = EC) -> Pair:
    """A pair of its own; whoever has no openssl skips the test."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl here")
    made = Pair(folder / f"{name}.pem", folder / f"{name}.key")
    make = "openssl req -x509 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1 -newkey"
    command = [*make.split(), *kind, "-keyout", str(made.keyfile), "-out", str(made.certfile)]
    subprocess.run(command, check=True, capture_output=True)
    return made
