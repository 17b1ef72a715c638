"""Where unmodified clients live: a virtual environment each, or one folder of node_modules, made at the first use.

    <cache>/<name>/           the virtual environment
    <cache>/<name>/installed  the packages that it was made for; others make it anew
    <cache>/<project>/        a checkout, for its example programs

`ARUNTIME_HARNESSES` names the cache, `TORCH_INDEX` an index with a torch for CPUs, as in the Makefile.
"""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

CACHE = Path(os.environ.get("ARUNTIME_HARNESSES", "~/.cache/aruntime/harnesses")).expanduser()
HERE = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class Packages:
    """What one client needs of a package index."""

    name: str
    whole: tuple[str, ...]  # installed with what they depend on
    bare: tuple[str, ...] = ()  # installed alone

    def words(self) -> str:
        return " ".join((*self.bare, *self.whole))


def environment(packages: Packages) -> Path:
    """The `bin` folder of their virtual environment. subprocess.CalledProcessError: they cannot be installed."""
    home = CACHE / packages.name
    if _is_made(home, packages):
        return home / "bin"
    shutil.rmtree(home, ignore_errors=True)
    subprocess.run([sys.executable, "-m", "venv", home], check=True)
    pip = [str(home / "bin/pip"), "install", "--quiet", "--disable-pip-version-check"]
    index = os.environ.get("TORCH_INDEX")
    more = ["--extra-index-url", index] if index else []
    subprocess.run([*pip, *more, *packages.whole], cwd=HERE, check=True)
    if packages.bare:
        subprocess.run([*pip, "--no-deps", *packages.bare], check=True)
    (home / "installed").write_text(packages.words())
    return home / "bin"


def node_modules(packages: Packages) -> Path:
    """The folder that holds their `node_modules`. subprocess.CalledProcessError: they cannot be installed."""
    home = CACHE / packages.name
    if _is_made(home, packages):
        return home
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    subprocess.run(["npm", "install", "--no-audit", "--no-fund", *packages.whole], cwd=home, check=True)
    (home / "installed").write_text(packages.words())
    return home


def checkout(project: str) -> Path:
    """A checkout of a project of OpenAI's. subprocess.CalledProcessError: it cannot be fetched."""
    home = CACHE / project
    if not home.exists():
        subprocess.run(["git", "clone", "--depth", "1", f"https://github.com/openai/{project}", home], check=True)
    return home


def commit(project: str) -> str:
    """Which commit of it that is."""
    told = subprocess.run(["git", "log", "-1", "--format=%h"], cwd=CACHE / project, capture_output=True, text=True)
    return told.stdout.strip()


def _is_made(home: Path, packages: Packages) -> bool:
    stamp = home / "installed"
    return stamp.exists() and stamp.read_text() == packages.words()
