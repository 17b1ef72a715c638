"""The vectors of prompts are the pooled states of transformers, whoever shares their steps."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers
from engine_decoder import TOKENS, Told, answers, save

from aruntime.queue.records import Pooling

Checkpoint = tuple[Path, transformers.LlamaForCausalLM]
# One token, one chunk, three chunks, and a prefix of another.
TEXTS = [[9], list(range(3, 20)), [(7 * place) % 90 + 3 for place in range(2 * TOKENS + 11)], list(range(3, 12))]


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Checkpoint:
    folder = tmp_path_factory.mktemp("pooling")
    return folder, save(folder)


@torch.inference_mode()
def pooled(model: transformers.LlamaForCausalLM, text: list[int], pooling: Pooling) -> torch.Tensor:
    """What is wanted: behind the last norm."""
    states = model.model(torch.tensor([text])).last_hidden_state[0]
    return states.mean(dim=0) if pooling == Pooling.MEAN else states[-1]


def vector(told: Told) -> torch.Tensor:
    return torch.from_numpy(np.frombuffer(told.vector, "<f4").copy())


def asked(text: list[int], pooling: Pooling) -> dict[str, Any]:
    return {"prompt": text, "pooling": pooling, "max_tokens": 1}


@pytest.mark.parametrize("pooling", [Pooling.MEAN, Pooling.LAST])
@pytest.mark.parametrize("text", TEXTS, ids=len)
def test_a_vector_is_the_pooled_states_of_transformers(
    checkpoint: Checkpoint, text: list[int], pooling: Pooling
) -> None:
    folder, model = checkpoint
    (told,) = answers(folder, [asked(text, pooling)])
    torch.testing.assert_close(vector(told), pooled(model, text, pooling), rtol=1e-4, atol=1e-5)
    assert told.tokens == []


@pytest.mark.parametrize("steps_ahead", [0, 1])
@pytest.mark.parametrize("blocks", [64, 15])
def test_neither_others_nor_a_step_ahead_nor_preemption_change_a_vector_or_an_answer(
    checkpoint: Checkpoint, steps_ahead: int, blocks: int
) -> None:
    folder, model = checkpoint
    said = {"prompt": list(range(3, 25)), "temperature": 0.0, "ignore_eos": True, "max_tokens": 20}
    (alone,) = answers(folder, [said])
    kinds = [(text, pooling) for text in TEXTS for pooling in (Pooling.MEAN, Pooling.LAST)]
    requests = [said, *(asked(*kind) for kind in kinds), said]
    first, *vectors, last = answers(folder, requests, steps_ahead=steps_ahead, blocks=blocks)
    assert first.tokens == last.tokens == alone.tokens
    for told, kind in zip(vectors, kinds, strict=True):
        torch.testing.assert_close(vector(told), pooled(model, *kind), rtol=1e-4, atol=1e-5)


def test_a_vector_has_the_same_bits_alone_and_among_others(checkpoint: Checkpoint) -> None:
    folder, _ = checkpoint
    together = answers(folder, [asked(text, Pooling.MEAN) for text in TEXTS])
    for told, text in zip(together, TEXTS, strict=True):
        assert answers(folder, [asked(text, Pooling.MEAN)])[0].vector == told.vector
