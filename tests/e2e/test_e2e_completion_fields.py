"""What a request may ask of the sampler, on a real server: the answers show that it was done."""

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest
from e2e_server import Server


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
