"""Bodies by the hundred thousand through the application: no fault of the server's, no hang, every answer whole.

    python bench/fuzz.py [--bodies 100000] [--seed 0] [--out bench/results/fuzz.md]

The bodies are those of tests/http/test_http_fuzz.py: valid ones, made from /openapi.json, broken in up to three places
or cut, and mere bytes; a fake engine answers what is admitted. One process; what is not answered within 5 s hangs.
"""

import argparse
import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, seed, settings

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests" / "http"))

from http_bodies import asked, judge  # noqa: E402
from http_house import House  # noqa: E402


def fuzz(bodies: int, first_seed: int) -> tuple[Counter[tuple[str, str]], list[float]]:
    """How each path answered, and how long each answer took (seconds). What fails is printed by hypothesis."""
    told: Counter[tuple[str, str]] = Counter()
    took: list[float] = []
    loop = asyncio.new_event_loop()
    with tempfile.TemporaryDirectory() as folder:

        async def build() -> tuple[House, asyncio.Task[None]]:
            house = House(Path(folder))
            return house, asyncio.create_task(house.answer_all("yes"))

        house, engine = loop.run_until_complete(build())

        async def post(path: str, body: bytes) -> str:
            return judge(await house.client(path, body).done())

        @seed(first_seed)
        @settings(
            max_examples=bodies,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
            phases=[Phase.generate, Phase.shrink],
        )
        @given(asked())
        def one(ask: tuple[str, bytes]) -> None:
            begun_s = time.perf_counter()
            told[ask[0], loop.run_until_complete(post(*ask))] += 1
            took.append(time.perf_counter() - begun_s)
            if len(took) % 5000 == 0:
                print(f"{len(took)} bodies", flush=True)

        one()
        engine.cancel()
        loop.run_until_complete(asyncio.wait({engine}))
        house.close()
    return told, sorted(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bodies", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    begun_s = time.monotonic()
    told, took = fuzz(arguments.bodies, arguments.seed)
    lines = [
        "# Bodies through the application",
        "",
        f"`python bench/fuzz.py --bodies {arguments.bodies} --seed {arguments.seed}`: {len(took)} bodies in "
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
