"""Vectors from a real server, through the unmodified openai package, held to transformers' states."""

import base64
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import openai
import pytest
import torch
import transformers
from e2e_checkpoint import HIDDEN
from e2e_server import Server, completion

from aruntime.model.tokenizer import Tokenizer

# One token, several chunks of a step's 512, and whatever lies between.
TEXTS = ["a", "once upon a time", "the quick brown fox " * 60, "Grüße, 世界!"]

Vectors = "np.ndarray[tuple[int, ...], np.dtype[np.float32]]"


@pytest.fixture(scope="module")
def wanted(checkpoint: Path) -> Vectors:
    """The last token's state of each text, 1 long."""
    tokenizer = Tokenizer.from_folder(checkpoint)
    model = transformers.AutoModel.from_pretrained(checkpoint, dtype=torch.float32).eval()
    with torch.inference_mode():
        states = [model(torch.tensor([tokenizer.encode(text)])).last_hidden_state[0, -1] for text in TEXTS]
    vectors = torch.stack(states).numpy()
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.fixture(scope="module")
def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def test_vectors_are_those_of_transformers_in_the_order_of_their_inputs(client: openai.OpenAI, wanted: Vectors) -> None:
    made = client.embeddings.create(model="tiny", input=TEXTS)
    assert [one.index for one in made.data] == list(range(len(TEXTS)))
    np.testing.assert_allclose([one.embedding for one in made.data], wanted, atol=1e-4)
    assert made.usage.prompt_tokens == made.usage.total_tokens == sum(len(text.encode()) for text in TEXTS)


def test_both_formats_and_fewer_dimensions_hold_the_same_vector(client: openai.OpenAI, wanted: Vectors) -> None:
    coded = client.embeddings.create(model="tiny", input=TEXTS[1], encoding_format="base64").data[0].embedding
    numbers = np.frombuffer(base64.b64decode(str(coded)), "<f4")
    np.testing.assert_allclose(numbers, wanted[1], atol=1e-4)
    short = client.embeddings.create(model="tiny", input=TEXTS[1], dimensions=8, encoding_format="float")
    np.testing.assert_allclose(short.data[0].embedding, wanted[1][:8] / np.linalg.norm(wanted[1][:8]), atol=1e-4)
    with pytest.raises(openai.BadRequestError) as error:
        client.embeddings.create(model="tiny", input="a", dimensions=HIDDEN + 1)
    assert error.value.param == "dimensions"


def test_a_thousand_inputs_come_back_in_order_while_others_are_answered(
    server: Server, client: openai.OpenAI, wanted: Vectors
) -> None:
    with ThreadPoolExecutor(2) as pool:
        many = pool.submit(client.embeddings.create, model="tiny", input=[TEXTS[place % 2] for place in range(1000)])
        said = [
            httpx.post(f"{server.url}/v1/completions", json=completion(8, stream=False), timeout=30) for _ in range(8)
        ]
    assert {reply.status_code for reply in said} == {200}
    assert len({reply.json()["choices"][0]["text"] for reply in said}) == 1
    np.testing.assert_allclose([one.embedding for one in many.result().data], np.tile(wanted[:2], (500, 1)), atol=1e-4)


def test_a_deadline_that_passes_meanwhile_is_told_as_such(client: openai.OpenAI) -> None:
    late = client.with_options(default_headers={"x-request-timeout-ms": "30"})
    with pytest.raises(openai.APIStatusError) as error:
        late.embeddings.create(model="tiny", input=["b" * 3000] * 200)
    assert (error.value.status_code, error.value.code) == (504, "deadline_exceeded")
