"""Bodies by the hundred thousand through the application: no fault of the server's, no hang, every answer whole.

    python bench/fuzz.py [--bodies 100000] [--seed 0] [--url http://127.0.0.1:8000] [--out bench/results/fuzz.md]

The bodies are those of tests/http/test_http_fuzz.py: valid ones, made from /openapi.json, broken in up to three places
or cut, and mere bytes. A fake engine answers what is admitted; with --url it is a running server, whose engine has 2 s
for each. One process; what is not answered within 5 s hangs. Ctrl-C ends it early, with what it has seen.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from contextlib import closing, suppress
from pathlib import Path

import httpx
from hypothesis import HealthCheck, Phase, given, seed, settings

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "http"))

from http_bodies import Answer, Asked, asked, judge  # noqa: E402
from http_house import House  # noqa: E402


class Fake:
    """The application, with an engine that says what it is told."""

    def __init__(self, folder: Path) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.run_until_complete(self._build(folder))

    async def _build(self, folder: Path) -> None:
        self._house = House(folder, context=4000)

    def post(self, ask: Asked) -> str:
        """How a body is answered."""
        return self._loop.run_until_complete(self._post(ask))

    async def _post(self, ask: Asked) -> str:
        engine = asyncio.create_task(self._house.answer_all(ask.said))
        answer = await self._house.client(ask.path, ask.body).done()
        engine.cancel()
        return judge(Answer(answer.status, answer.headers, answer.body))

    def close(self) -> None:
        """Let go of what the channels are made of."""
        self._house.close()


class Real:
    """A server that runs, with the model `demo`."""

    def __init__(self, url: str) -> None:
        self._client = httpx.Client(base_url=url, timeout=5.0)

    def post(self, ask: Asked) -> str:
        """How a body is answered, whatever the model says."""
        headers = {"content-type": "application/json", "x-request-timeout-ms": "2000"}
        answer = self._client.post(ask.path, content=ask.body, headers=headers)
        return judge(Answer(answer.status_code, answer.headers, answer.content))

    def close(self) -> None:
        """Hang up."""
        self._client.close()


def fuzz(server: Fake | Real, bodies: int, first_seed: int) -> Counter[tuple[str, str]]:
    """How often each path answered how. What fails is printed by hypothesis."""
    told: Counter[tuple[str, str]] = Counter()

    @seed(first_seed)
    @settings(
        max_examples=bodies,
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
    )
    @given(asked())
    def one(ask: Asked) -> None:
        told[ask.path, server.post(ask)] += 1
        if told.total() % 5000 == 0:
            print(f"{told.total()} bodies", flush=True)

    with suppress(KeyboardInterrupt):
        one()
    return told


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--url")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    begun_s = time.monotonic()
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(Real(arguments.url) if arguments.url else Fake(Path(folder))) as server,
    ):
        told = fuzz(server, arguments.bodies, arguments.seed)
    where = "a running server" if arguments.url else "the application"
    lines = [
        f"# Bodies through {where}",
        "",
        f"`python bench/fuzz.py --bodies {arguments.bodies} --seed {arguments.seed}`: {told.total()} bodies in "
        f"{time.monotonic() - begun_s:.0f} s. No 5xx but what says to come back, no hang, every answer whole.",
        "",
        "| path | answer | bodies |",
        "| --- | --- | --- |",
        *(f"| {path} | {answer} | {count} |" for (path, answer), count in sorted(told.items())),
        "",
    ]
    print("\n".join(lines))
    if arguments.out is not None:
        arguments.out.write_text("\n".join(lines))


if __name__ == "__main__":
    main()
