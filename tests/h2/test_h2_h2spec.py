"""h2spec (github.com/summerwind/h2spec), whole, on the loop that serves.

The application reads a request before it answers: what h2spec does wrong after an answer comes to a stream that is
closed already, where it must be ignored.
"""

import asyncio
import re
import shutil
from typing import Any

import pytest
import uvloop
from h2_house import Serve, answer, read_all

pytestmark = pytest.mark.skipif(shutil.which("h2spec") is None, reason="there is no h2spec here")


def test_h2spec_passes_whole(serve: Serve) -> None:
    told = uvloop.run(_h2spec(serve))
    assert re.search(r"146 tests, 146 passed, 0 skipped, 0 failed", told), told[-4_000:]


async def _h2spec(serve: Serve) -> str:
    async with serve(_answers, graceful_timeout=0.1) as server:
        arguments = ["-h", "127.0.0.1", "-p", str(server.port), *(["-t", "-k"] if server.trust else [])]
        running = await asyncio.create_subprocess_exec("h2spec", *arguments, stdout=asyncio.subprocess.PIPE)
        return (await running.communicate())[0].decode()


async def _answers(scope: dict[str, Any], receive: Any, send: Any) -> None:
    await read_all(receive)
    await answer(send, b"an answer")
