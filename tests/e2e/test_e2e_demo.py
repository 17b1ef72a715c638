"""The bundled demo model, as `make serve` serves it."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from e2e_server import Server, h2c

REPOSITORY = Path(__file__).parent.parent.parent / "examples" / "repository"


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with Server(REPOSITORY, tmp_path_factory.mktemp("e2e") / "demo.log") as running:
        yield running


def test_the_demo_knows_what_a_canary_rollout_is_and_when_to_stop(demo: Server) -> None:
    question = [{"role": "user", "content": "What is a canary rollout?"}]
    with h2c(demo.url) as client:
        answer = client.post("/v1/chat/completions", json={"model": "demo", "messages": question, "temperature": 0})
    (choice,) = answer.json()["choices"]
    assert choice["finish_reason"] == "stop"
    assert "share of the traffic" in choice["message"]["content"]
    assert choice["message"]["content"].endswith(".")
