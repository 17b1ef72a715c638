"""curl, on a real server over HTTP/2: streams, many at once, and what it leaves before the end."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from e2e_front import ENDLESS_TOKENS, Front
from e2e_server import completion, events

pytestmark = pytest.mark.skipif(shutil.which("curl") is None, reason="there is no curl here")


def curl(front: Front, tokens: int, *more: str, urls: int = 1) -> list[str]:
    """The command that asks for a stream of so many tokens; one of `urls` at the same time."""
    way = ["--http2", "--cacert", str(front.cafile)] if front.cafile else ["--http2-prior-knowledge"]
    body = ["-H", "content-type: application/json", "-d", json.dumps(completion(tokens))]
    return ["curl", "-sN", *way, *more, *body, *[f"{front.url}/v1/completions"] * urls]


def test_curl_streams_over_http2(front: Front) -> None:
    command = curl(front, 5, "-w", "%{http_version} %{http_code}")
    answer = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout.splitlines()
    assert answer[-1] == "2 200"
    assert events(answer)[-1] == "[DONE]"


def test_curl_gets_each_piece_when_it_is_made_and_what_it_leaves_is_computed_no_further(front: Front) -> None:
    with subprocess.Popen(curl(front, ENDLESS_TOKENS), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            assert json.loads(process.stdout.readline().removeprefix("data: "))["choices"][0]["text"]
            assert not front.is_idle()
        finally:
            process.terminate()
    front.until_idle()


def test_a_transfer_that_curl_gives_up_after_its_time_is_computed_no_further(front: Front) -> None:
    ended = subprocess.run(curl(front, ENDLESS_TOKENS, "--max-time", "0.5"), capture_output=True, timeout=30)
    assert ended.returncode == 28  # "the operation timed out", of curl's own
    assert ended.stdout.startswith(b"data: ")
    front.until_idle()


def test_curl_gets_many_streams_at_once_whole(front: Front, tmp_path: Path) -> None:
    # In clear text curl 7.88 fails to put a transfer on a connection of prior knowledge that it has already,
    # whoever the server is: there each has its own. Over TLS all share the first.
    many, connects = 50, 1 if front.cafile else 50
    told = ["-w", "%{http_version} %{http_code} %{num_connects}\\n"]
    parallel = ["-Z", "--parallel-max", str(many), *([] if front.cafile else ["--parallel-immediate"])]
    outputs = [word for number in range(many) for word in ("-o", str(tmp_path / str(number)))]
    ended = subprocess.run(
        curl(front, 20, *told, *parallel, *outputs, urls=many), check=True, capture_output=True, text=True, timeout=60
    )
    answers = [line.split() for line in ended.stdout.splitlines()]
    assert [answer[:2] for answer in answers] == [["2", "200"]] * many
    assert sum(int(answer[2]) for answer in answers) == connects
    texts = [events((tmp_path / str(number)).read_text().splitlines()) for number in range(many)]
    assert [text[-1] for text in texts] == ["[DONE]"] * many
