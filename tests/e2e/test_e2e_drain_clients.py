"""A server that is asked to stop, as its clients over TLS see it: each stream whole, then a goodbye, and no error."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import openai
from e2e_front import Front
from e2e_node import told_by
from e2e_server import Server, completion, events, until

TOKENS = 1_500


def read_by_httpx(front: Front) -> str:
    with httpx.Client(base_url=front.url, timeout=60, **front.httpx(http2=True)) as client:
        return events(client.post("/v1/completions", json=completion(TOKENS)).text.splitlines())[-1]


def read_by_the_sdk(front: Front) -> str | None:
    transport = openai.DefaultHttpxClient(**front.httpx(http2=True))
    with openai.OpenAI(base_url=f"{front.url}/v1", api_key="none", http_client=transport) as client:
        ask: Any = {"model": "tiny", "prompt": "hello", "max_tokens": TOKENS, "extra_body": {"ignore_eos": True}}
        return [chunk.choices[0].finish_reason for chunk in client.completions.create(**ask, stream=True)][-1]


def test_a_drain_ends_every_stream_whole_and_then_says_goodbye(
    wide_repository: Path, certificate: tuple[Path, Path], tmp_path: Path
) -> None:
    certfile, keyfile = certificate
    tls = ["--certfile", str(certfile), "--keyfile", str(keyfile)]
    with Server(wide_repository, tmp_path / "log", *tls) as server, ThreadPoolExecutor() as readers:
        front = Front(server, certfile)
        by_httpx, by_the_sdk = readers.submit(read_by_httpx, front), readers.submit(read_by_the_sdk, front)
        until(lambda: server.metric("aruntime_sequences_in_flight") == 2)
        told = told_by("drain.mjs", server.url, str(server.process.pid), cafile=certfile)
        assert (by_httpx.result(30), by_the_sdk.result(30)) == ("[DONE]", "length")
        assert server.process.wait(20) == 0
    assert told["text"].endswith("data: [DONE]\n\n")
    assert (told["errors"], told["rstCode"]) == ([], 0)
    assert told["goaways"][-1] == {"code": 0, "lastStream": 1, "whole": True}
