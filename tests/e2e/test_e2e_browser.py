"""Chromium's fetch, on a real server over TLS: a stream is read as it comes, and aborted."""

import json
import shutil
from typing import Any

import httpx
import pytest
from e2e_front import Front
from e2e_node import told_by
from e2e_server import events

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")
def told(tls_front: Front) -> dict[str, Any]:
    """What a page of the server's own origin made of its streams."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        pytest.skip("there is no Chromium here")
    return told_by("browser.mjs", browser, tls_front.url, tls_front.server.admin_url)


def test_a_page_reads_a_stream_over_http2_piece_by_piece_and_whole(told: dict[str, Any], tls_front: Front) -> None:
    stream = told["stream"]
    assert stream["protocol"] == "h2"
    assert stream["pieces"] > 1
    *chunks, done = events(stream["text"].splitlines())
    said = "".join(json.loads(chunk)["choices"][0]["delta"].get("content") or "" for chunk in chunks)
    ask = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}], "temperature": 0, "max_tokens": 1500}
    with httpx.Client(base_url=tls_front.url, timeout=60, **tls_front.httpx(http2=True)) as client:
        whole = client.post("/v1/chat/completions", json=ask | {"ignore_eos": True}).json()
    assert (said, done) == (whole["choices"][0]["message"]["content"], "[DONE]")


def test_what_a_page_aborts_is_computed_no_further_and_its_connection_serves_on(told: dict[str, Any]) -> None:
    assert told["begun"] > 0
    assert told["running"]
    assert (told["abort"], told["freed"], told["afterwards"]) == ("AbortError", True, True)


def test_a_page_of_another_origin_is_told_nothing(told: dict[str, Any]) -> None:
    assert told["fromElsewhere"] == "TypeError"  # no CORS: "failed to fetch"
