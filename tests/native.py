"""Builds the C++ programs of the tests over the headers of csrc/, and runs them."""

import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
HEADERS = HERE.parent / "csrc"
COMPILER = os.environ.get("CXX") or shutil.which("g++") or "c++"
# What a program does that AddressSanitizer or UBSan does not allow ends it.
SANITIZE = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")


def build(source: Path, folder: Path, *flags: str, headers: Path = HEADERS, parts: tuple[Path, ...] = ()) -> Path:
    """Compile `source` and `parts` into a program in `folder`. Warnings are errors."""
    program = folder / source.stem
    options = ["-std=c++20", "-g1", "-Wall", "-Wextra", "-Werror", *flags, f"-I{headers}", f"-I{HERE}"]
    command = [COMPILER, *options, *map(str, (source, *parts)), "-o", str(program)]
    built = subprocess.run(command, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    return program


def run(program: Path, *arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end."""
    return subprocess.run(
        [str(program), *arguments], capture_output=True, text=True, env={**os.environ, **environment}, timeout=100
    )


def passes(program: Path, *arguments: str, **environment: str) -> str:
    """What a program prints that must end well."""
    ran = run(program, *arguments, **environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout
