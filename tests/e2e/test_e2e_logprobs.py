"""Through a real server: what the sampler is asked is done, and what is told of likelihoods is told."""

from typing import Any

import httpx
import pytest
from e2e_server import Server


def ask(server: Server, path: str, **body: Any) -> dict[str, Any]:
    answer = httpx.post(f"{server.url}/v1/{path}", json={"model": "tiny", "seed": 1, **body}, timeout=30)
    assert answer.status_code == 200, answer.text
    choice: dict[str, Any] = answer.json()["choices"][0]
    return choice


def test_the_prompt_is_echoed_with_the_logprobs_of_its_tokens(server: Server) -> None:
    prompt = "the quick brown fox jumps over the lazy dog " * 8
    choice = ask(server, "completions", prompt=prompt, echo=True, logprobs=3, max_tokens=0)
    assert choice["text"] == prompt
    told = choice["logprobs"]
    assert "".join(told["tokens"]) == prompt
    assert told["token_logprobs"][0] is None
    assert all(logprob <= 0 for logprob in told["token_logprobs"][1:])
    assert all(len(top) >= 3 for top in told["top_logprobs"][1:])
    again = ask(server, "completions", prompt=prompt, echo=True, logprobs=3, max_tokens=0)  # its blocks are cached now
    assert again["logprobs"]["token_logprobs"][1:] == pytest.approx(told["token_logprobs"][1:], abs=1e-4)


def test_alternatives_are_in_order_and_the_greedy_token_is_the_first(server: Server) -> None:
    messages = [{"role": "user", "content": "hello"}]
    asked = {"messages": messages, "logprobs": True, "top_logprobs": 20, "max_tokens": 8, "temperature": 0}
    choice = ask(server, "chat/completions", **asked, ignore_eos=True)
    assert len(choice["logprobs"]["content"]) == 8
    for token in choice["logprobs"]["content"]:
        logprobs = [top["logprob"] for top in token["top_logprobs"]]
        assert len(logprobs) == 20
        assert logprobs == sorted(logprobs, reverse=True)
        assert token["top_logprobs"][0] == {name: token[name] for name in ("token", "logprob", "bytes")}


def test_a_bias_forces_a_token_and_a_bad_word_is_never_said(server: Server) -> None:
    asked = {"prompt": "hello", "max_tokens": 6, "temperature": 0, "ignore_eos": True}
    plain = ask(server, "completions", **asked, logprobs=0)["logprobs"]["tokens"]
    forced = ask(server, "completions", **asked, logit_bias={"40": 100})["text"]
    assert forced == forced[: len(forced) // 6] * 6
    words = [token for token in plain if "\ufffd" not in token and not token.startswith("bytes:")]
    text = ask(server, "completions", **asked, bad_words=words)["text"]
    assert not [word for word in words if word in text]
