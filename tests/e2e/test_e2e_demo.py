"""The bundled demo model, as `make serve` serves it, and the examples that talk to it."""

import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_node import node
from e2e_server import Server, h2c

EXAMPLES = Path(__file__).parents[2] / "examples"
CANARY = "share of the traffic"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(EXAMPLES / "repository", tmp_path_factory.mktemp("e2e") / "demo.log") as running:
        yield running


def test_the_demo_knows_what_a_canary_rollout_is_and_when_to_stop(demo: Server) -> None:
    question = [{"role": "user", "content": "What is a canary rollout?"}]
    with h2c(demo.url) as client:
        answer = client.post("/v1/chat/completions", json={"model": "demo", "messages": question, "temperature": 0})
    (choice,) = answer.json()["choices"]
    assert choice["finish_reason"] == "stop"
    assert CANARY in choice["message"]["content"]
    assert choice["message"]["content"].endswith(".")


def run(demo: Server, *command: str) -> str:
    """What an example prints, as it stands."""
    return subprocess.run([*command, demo.url, "demo"], check=True, capture_output=True, text=True, timeout=60).stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")
def test_the_example_for_curl_runs(demo: Server) -> None:
    told = run(demo, str(EXAMPLES / "curl.sh"))
    assert "data: [DONE]" in told
    assert "HTTP/2 200" in told
    assert '"param":"best_of"' in told


def test_the_example_for_httpx_runs(demo: Server) -> None:
    told = run(demo, sys.executable, str(EXAMPLES / "httpx_stream.py"))
    assert CANARY in told
    assert told.endswith("... (left)\n")


def test_the_example_for_the_openai_sdk_runs(demo: Server) -> None:
    told = run(demo, sys.executable, str(EXAMPLES / "openai_sdk.py"))
    assert CANARY in told
    assert told.endswith("refused by name: temperature\n")


def test_the_example_for_the_openai_sdk_of_node_runs(demo: Server) -> None:
    told = node(EXAMPLES / "openai_node.mjs", demo.url, "demo")
    assert CANARY in told
    assert "... (left)\n404 model_not_found" in told
