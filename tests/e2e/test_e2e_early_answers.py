"""Clients whose body is not wanted: each is told 413 though it sends all of the body first, and serves on."""

import shutil
import subprocess
from pathlib import Path

import httpx
import openai
import pytest
from e2e_front import Front
from e2e_server import HEADERS

BODY_BYTES = 8 << 20  # twice of what is taken


def test_curl_is_told_that_its_body_is_too_long(front: Front, tmp_path: Path) -> None:
    if shutil.which("curl") is None:
        pytest.skip("there is no curl here")
    (body := tmp_path / "body").write_bytes(BODY_BYTES * b"x")
    way = ["--http2", "--cacert", str(front.cafile)] if front.cafile else ["--http2-prior-knowledge"]
    told = ["-w", "%{http_version} %{http_code}", "-H", "content-type: application/json"]
    command = ["curl", "-s", *way, *told, "--data-binary", f"@{body}", f"{front.url}/v1/completions"]
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
    assert '"code":"request_too_large"' in answer
    assert answer.endswith("2 413")


def test_httpx_is_told_that_its_body_is_too_long(front: Front) -> None:
    with httpx.Client(base_url=front.url, timeout=20, **front.httpx(http2=True)) as client:
        for _ in range(2):
            answer = client.post("/v1/completions", content=BODY_BYTES * b"x", headers=HEADERS)
            assert (answer.status_code, answer.json()["error"]["code"]) == (413, "request_too_large")
        assert client.get("/health/live").status_code == 200


def test_the_openai_sdk_is_told_that_its_prompt_is_too_long(front: Front) -> None:
    transport = openai.DefaultHttpxClient(**front.httpx(http2=True), timeout=20)
    options = {"base_url": f"{front.url}/v1", "api_key": "none", "max_retries": 0, "http_client": transport}
    with openai.OpenAI(**options) as client, pytest.raises(openai.APIStatusError) as refused:  # type: ignore[arg-type]
        client.completions.create(model="tiny", prompt="x" * BODY_BYTES)
    assert (refused.value.status_code, refused.value.code) == (413, "request_too_large")
