"""What a request may ask of the sampler, on a real server: the answers show that it was done."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2e_server import Server

from aruntime.model.tokenizer import Tokenizer
from aruntime.wire.logprobs import completion_logprobs
from aruntime.wire.said import Chosen

A = 64  # the id of "a"
VOCAB = 259


@pytest.fixture(scope="module")
def ask(server: Server) -> Any:
    """Ask for a completion of `tiny`; the answer's choices."""

    def choices(**fields: object) -> list[dict[str, Any]]:
        body = {"model": "tiny", "prompt": "once upon", "max_tokens": 12, "ignore_eos": True, **fields}
        reply = httpx.post(f"{server.url}/v1/completions", json=body, timeout=30)
        assert reply.status_code == 200, reply.text
        made: list[dict[str, Any]] = reply.json()["choices"]
        return made

    return choices


@pytest.fixture(scope="module")
def ids(checkpoint: Path) -> dict[str, int]:
    """The ids of tokens as completions tell them."""
    tokenizer = Tokenizer.from_folder(checkpoint)
    told = {token: completion_logprobs([Chosen("", tokenizer.spell(token), 0.0)]) for token in range(VOCAB)}
    return {one["tokens"][0]: token for token, one in told.items()}


def test_a_seed_says_the_same_alone_and_among_others(ask: Any) -> None:
    alone = [ask(seed=seed)[0]["text"] for seed in (7, 8, 9)]
    assert len(set(alone)) == 3
    with ThreadPoolExecutor(12) as pool:
        crowd = [pool.submit(ask, seed=100 + i, max_tokens=5 + 3 * i) for i in range(8)]
        again = [pool.submit(ask, seed=seed) for seed in (7, 8, 9)]
        assert [one.result()[0]["text"] for one in again] == alone
        assert all(one.result() for one in crowd)


def test_the_choices_of_a_seed_are_those_of_the_seeds_from_it_on(ask: Any) -> None:
    several = [choice["text"] for choice in ask(seed=7, n=3)]
    assert several == [ask(seed=seed)[0]["text"] for seed in (7, 8, 9)]


def test_a_seed_s_beginning_does_not_depend_on_how_much_is_asked(ask: Any) -> None:
    short, long = (ask(seed=7, max_tokens=count, logprobs=0)[0]["logprobs"]["tokens"] for count in (6, 12))
    assert long[:6] == short


def test_a_bias_makes_a_token_certain_or_impossible(ask: Any) -> None:
    assert ask(logit_bias={str(A): 100})[0]["text"] == "a" * 12
    assert "a" not in ask(logit_bias={str(A): -100, str(A + 1): 50}, max_tokens=40)[0]["text"]


def test_a_bad_word_is_not_said_and_its_beginning_is(ask: Any) -> None:
    biases = {str(A): 100, str(A + 1): 50}
    assert ask(logit_bias=biases, temperature=0)[0]["text"] == "a" * 12
    assert ask(logit_bias=biases, temperature=0, bad_words=["aa"])[0]["text"] == "ab" * 6
    assert ask(logit_bias=biases, temperature=0, bad_words=["a"])[0]["text"] == "b" * 12


def test_the_greedy_token_is_the_likeliest_of_its_alternatives(ask: Any) -> None:
    logprobs = ask(temperature=0, logprobs=5)[0]["logprobs"]
    for logprob, top in zip(logprobs["token_logprobs"], logprobs["top_logprobs"], strict=True):
        assert logprob == max(top.values())
        assert 5 <= len(top) <= 6
        assert list(top.values()) == sorted(top.values(), reverse=True)


def test_a_prompt_is_scored_as_it_would_have_been_said(ask: Any, ids: dict[str, int]) -> None:
    """And twice alike, although its prefix is cached the second time."""
    prompt = list(range(30, 80))
    said = ask(prompt=prompt, temperature=0, logprobs=1, max_tokens=40)[0]["logprobs"]
    whole = [*prompt, *(ids[token] for token in said["tokens"])]
    first, second = (ask(prompt=whole, echo=True, logprobs=1, max_tokens=0)[0]["logprobs"] for _ in range(2))
    assert first == second
    assert (first["token_logprobs"][0], first["top_logprobs"][0]) == (None, None)
    assert [ids[token] for token in first["tokens"]] == whole
    scores, tops = (first[name][len(prompt) :] for name in ("token_logprobs", "top_logprobs"))
    assert scores == pytest.approx(said["token_logprobs"], abs=1e-4)
    assert scores == [max(top.values()) for top in tops]  # how lm-eval sees that they are greedy
