"""Security by assert has failed others: who gets in, and how much of it, is decided where asserts are not compiled."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
GUARDS = ["base/names.py", "control/tenants.py", "http/auth.py", "http/edge.py"]
GUARDS += sorted(f"admission/{path.name}" for path in (ROOT / "aruntime" / "admission").glob("*.py"))


@pytest.mark.parametrize("path", GUARDS)
def test_no_assert_decides_who_gets_in(path: str) -> None:
    tree = ast.parse((ROOT / "aruntime" / path).read_text())
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Assert)]


def test_the_tests_of_who_gets_in_pass_without_asserts() -> None:
    command = [sys.executable, "-O", "-m", "pytest", "-p", "no:cacheprovider", "-x"]
    # pytest rewrites the asserts of test modules, so theirs still hold; it warns of those in other modules.
    command += ["-W", "ignore:assertions not in test modules:pytest.PytestConfigWarning"]
    files = ["tests/http/test_http_auth.py", "tests/http/test_http_edge.py", "tests/control/test_control_tenants.py"]
    ended = subprocess.run([*command, *files], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-1000:]
    assert "passed" in ended.stdout
