"""The openai package of npm, installed once for all runs."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

PACKAGES = ("openai@6.49.0", "zod@4.1.12")
INSTALL_TIMEOUT_S = 60
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
            pytest.skip("npm cannot install the openai package here")
    return home
