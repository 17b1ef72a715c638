"""h2load (of nghttp2), on a real server: 512 streams at once on 16 connections, none of which fails."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from e2e_front import Front
from e2e_server import completion

pytestmark = pytest.mark.skipif(shutil.which("h2load") is None, reason="there is no h2load here (nghttp2-client)")

REQUESTS = 2_000


def test_of_many_streams_that_h2load_asks_for_all_succeed(front: Front, tmp_path: Path) -> None:
    (body := tmp_path / "body.json").write_text(json.dumps(completion(4)))
    many = ["-n", str(REQUESTS), "-c", "16", "-m", "32", "-d", str(body), "-H", "content-type: application/json"]
    command = ["h2load", *many, f"{front.url}/v1/completions"]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120).stdout
    assert f"{REQUESTS} done, {REQUESTS} succeeded, 0 failed, 0 errored, 0 timeout" in told
    assert f"{REQUESTS} 2xx, 0 3xx, 0 4xx, 0 5xx" in told
    assert re.search(r"Application protocol: (h2|h2c)\b", told)
    front.until_idle()
