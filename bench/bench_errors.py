"""How long a refusal takes, over every language endpoint of a running server: wrong bodies, small ones and the largest.

    aruntime serve &
    python bench/bench_errors.py [--url http://127.0.0.1:8000] [--out bench/results/errors.md]

One client, one connection of HTTP/1.1, one request after the other; the time is the client's, from the first byte
sent to the last received. Goal: under 10 ms at the 99th percentile, for bodies of up to 64 KiB; of one of 4 MiB the way
to the server alone takes about as long.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import orjson

from aruntime.wire.openapi import OPERATIONS, Operation

GOAL_S = 0.010
JSON = {"content-type": "application/json"}
SIZES = {"64 KiB": 64 << 10, "4 MiB": (4 << 20) - 4096}
GOAL_BYTES = 80 << 10
Case = tuple[str, int, str, bytes, dict[str, str]]


def cases(operation: Operation, model: str) -> Iterator[Case]:
    """(what is wrong, the status it must have, the method, the body, the headers)."""
    body = {"model": model, **operation.example}
    field = next(iter(operation.example))
    yield "not JSON", 400, "POST", b"{", JSON
    yield "unknown field", 400, "POST", orjson.dumps({**body, "fancy": 1}), JSON
    yield "wrong type", 400, "POST", orjson.dumps({**body, field: True}), JSON
    yield "infinite", 400, "POST", orjson.dumps({**body, field: "?"}).replace(b'"?"', b"1e400"), JSON
    yield "unknown model", 404, "POST", orjson.dumps({**body, "model": "nobody"}), JSON
    yield "wrong method", 405, "PUT", b"", {}
    yield "wrong content type", 415, "POST", orjson.dumps(body), {"content-type": "text/plain"}
    for name, size in SIZES.items():
        yield f"{name}: not JSON at its end", 400, "POST", b'{"a":"' + b"x" * size, JSON
        yield f"{name}: brackets", 400, "POST", b"[" * size, JSON
        yield f"{name}: wrong items", 400, "POST", orjson.dumps({**body, field: [True] * (size // 5)}), JSON
        yield f"{name}: unknown field", 400, "POST", orjson.dumps({"fancy": "x" * size, **body}), JSON


def measure(client: httpx.Client, path: str, case: Case, repeats: int) -> list[float]:
    """Seconds of each repeat, the first ones left out."""
    what, status, method, body, headers = case
    took = []
    for repeat in range(repeats + 3):
        begun_s = time.perf_counter()
        answer = client.request(method, path, content=body, headers=headers)
        if repeat >= 3:
            took.append(time.perf_counter() - begun_s)
        if answer.status_code != status or set(answer.json()["error"]) != {"message", "type", "param", "code"}:
            sys.exit(f"{path}, {what}: {answer.status_code} {answer.text[:200]}")
    return sorted(took)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--repeats", type=int, default=100)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    lines = ["| path | what is wrong | p50 ms | p99 ms | most ms |", "| --- | --- | --- | --- | --- |"]
    worst_s = 0.0
    with httpx.Client(base_url=arguments.url, timeout=30) as client:
        for operation in OPERATIONS:
            for case in cases(operation, arguments.model):
                repeats = arguments.repeats if len(case[3]) < 1 << 20 else max(20, arguments.repeats // 5)
                took = measure(client, operation.path, case, repeats)
                p99_s = statistics.quantiles(took, n=100, method="inclusive")[98]
                worst_s = max(worst_s, p99_s if len(case[3]) <= GOAL_BYTES else 0.0)
                figures = " | ".join(
                    f"{1000 * figure_s:.2f}" for figure_s in (statistics.median(took), p99_s, took[-1])
                )
                lines.append(f"| {operation.path} | {case[0]} | {figures} |")
                print(lines[-1], flush=True)
    told = f"The slowest p99, of bodies up to 64 KiB, is {1000 * worst_s:.1f} ms; the goal is {1000 * GOAL_S:.0f} ms."
    print(told)
    if arguments.out is not None:
        arguments.out.write_text("\n".join(["# Refusals", "", told, "", *lines, ""]))


if __name__ == "__main__":
    main()
