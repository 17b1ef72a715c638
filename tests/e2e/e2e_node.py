"""Programs for Node, and the packages of npm that they import, installed once for all runs."""

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

PACKAGES = ("openai@6.49.0", "playwright-core@1.65.1", "undici@7.30.2", "zod@4.1.12")
INSTALL_TIMEOUT_S = 60
RUN_TIMEOUT_S = 90
CACHE = Path(os.environ.get("XDG_CACHE_HOME", "~/.cache")).expanduser() / "aruntime"


def node_home() -> Path:
    """A folder in which a Node program finds the packages. Skips the test where there is no Node or no registry."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("there is no node and npm here")
    home = CACHE / "-".join(["node", *PACKAGES]).replace("@", "-")
    if not (home / "node_modules/openai/package.json").exists():
        home.mkdir(parents=True, exist_ok=True)
        command = ["npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", *PACKAGES]
        try:
            subprocess.run(command, cwd=home, check=True, capture_output=True, timeout=INSTALL_TIMEOUT_S)
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            pytest.skip("npm cannot install the packages here")
    return home


def node(program: Path, *arguments: str, cafile: Path | None = None) -> str:
    """What a program prints. `cafile` is what it trusts besides the certificates that Node knows."""
    with tempfile.TemporaryDirectory() as folder:
        # Node looks for packages beside the program, and above it.
        Path(folder, "node_modules").symlink_to(node_home() / "node_modules")
        for source in (program, Path(__file__).with_name("server.mjs")):
            shutil.copy(source, folder)
        ended = subprocess.run(
            ["node", str(Path(folder, program.name)), *arguments],
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT_S,
            env=os.environ | ({"NODE_EXTRA_CA_CERTS": str(cafile)} if cafile else {}),
        )
    assert ended.returncode == 0, ended.stderr
    return ended.stdout


def told_by(program: str, *arguments: str, cafile: Path | None = None) -> dict[str, Any]:
    """The JSON object that a program of this folder prints."""
    told: dict[str, Any] = json.loads(node(Path(__file__).with_name(program), *arguments, cafile=cafile))
    return told
