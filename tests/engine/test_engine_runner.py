"""The runner over a real decoder: what a step ahead changes, which is nothing but the waiting."""

from pathlib import Path

import pytest
from engine_decoder import answers, save


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runner")
    save(folder)
    return folder


def test_a_step_ahead_and_too_few_blocks_change_no_token(checkpoint: Path) -> None:
    shared = list(range(3, 30))
    requests = [
        {
            "prompt": [*shared[: 5 * slot + 1], 40 + slot],
            "presence_penalty": 0.5 if slot == 1 else 0.0,
            "ignore_eos": slot % 2 == 0,
        }
        for slot in range(6)
    ]
    undisturbed = answers(checkpoint, requests)
    assert all(told.tokens for told in undisturbed)
    assert answers(checkpoint, requests, steps_ahead=1) == undisturbed
    assert answers(checkpoint, requests, blocks=15) == undisturbed
    assert answers(checkpoint, requests, steps_ahead=1, blocks=15) == undisturbed
