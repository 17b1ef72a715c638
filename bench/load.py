"""An open-loop load generator over HTTP/2: requests leave when they are due, whether or not earlier ones were answered.

    python bench/load.py --url http://127.0.0.1:8000 --model demo --rate 8 --duration-s 20

Arrivals are Poisson from a seed; requests are spread over `--connections` clear-text HTTP/2 connections. Prints TTFT,
ITL and E2E percentiles (seconds), output tokens a second, and goodput: the rate of requests that met every objective.
A latency is taken from the moment a request was due, so a client that falls behind does not flatter the server; how
late its requests left is printed too.
"""

import argparse
import asyncio
import json
import random
import time
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events
import uvloop

_WORDS = "what is a canary rollout and how does the server batch decode steps under load with a deadline".split()


@dataclass(frozen=True, slots=True)
class Source:
    """Requests of one kind from one caller, `rate` of them a second on average."""

    rate: float
    input_words: int = 32
    output_tokens: int = 64
    name: str = ""
    key: str | None = None
    priority: str | None = None
    timeout_ms: int | None = None
    retries: int = 0  # how often a request comes again after the Retry-After that it was told

    def headers(self) -> list[tuple[str, str]]:
        """What a request says of its terms."""
        terms = {
            "authorization": self.key and f"Bearer {self.key}",
            "x-request-priority": self.priority,
            "x-request-timeout-ms": self.timeout_ms,
        }
        return [(name, str(value)) for name, value in terms.items() if value is not None]

    def body(self, model: str, chance: random.Random) -> bytes:
        """A chat request for exactly `output_tokens`, after words that no cache has seen."""
        text = " ".join(chance.choice(_WORDS) for _ in range(self.input_words))
        return json.dumps(
            {
                "model": model,
                "messages": [{"role": "user", "content": text}],
                "max_tokens": self.output_tokens,
                "ignore_eos": True,
                "temperature": 0,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
        ).encode()


@dataclass(slots=True)
class Sample:
    """One request: when it was due, when its tokens came, how it ended."""

    source: Source
    due_s: float
    sent_s: float
    attempt: int = 1
    status: int = 0
    code: str = ""  # of the error, in the answer or in a stream's last event
    retry_after_s: float | None = None
    token_s: list[float] = field(default_factory=list)
    end_s: float = 0.0
    done: bool = False  # saw [DONE]
    tokens: int = 0  # as the server counts them
    tail: bytes = b""

    def start(self, headers: dict[str, str]) -> None:
        """The answer's headers have come."""
        self.status = int(headers[":status"])
        self.retry_after_s = float(headers["retry-after"]) if "retry-after" in headers else None

    def take(self, data: bytes, now_s: float) -> None:
        """Read the events of one DATA frame; an event may be cut across frames."""
        *events, self.tail = (self.tail + data).split(b"\n\n")
        for event in events:
            if event == b"data: [DONE]":
                self.done = True
            elif b'"completion_tokens":' in event:
                self.tokens = json.loads(event.removeprefix(b"data: "))["usage"]["completion_tokens"]
            elif event.startswith(b'data: {"error":'):
                self.code = json.loads(event.removeprefix(b"data: "))["error"]["code"]
            elif event.startswith(b"data: ") and b'"content":' in event and b'"content":""' not in event:
                self.token_s.append(now_s)

    def end(self, now_s: float) -> None:
        """The answer is over; one that is no stream is an error's."""
        self.end_s = now_s
        if self.status not in (0, 200):
            self.code = json.loads(self.tail)["error"]["code"]

    @property
    def ok(self) -> bool:
        return self.status == 200 and self.done and bool(self.token_s)

    @property
    def ttft_s(self) -> float:
        return self.token_s[0] - self.due_s

    @property
    def e2e_s(self) -> float:
        return self.end_s - self.due_s

    @property
    def itl_s(self) -> list[float]:
        return [later - sooner for sooner, later in zip(self.token_s, self.token_s[1:], strict=False)]


class Connection(asyncio.Protocol):
    """One HTTP/2 connection in clear text with prior knowledge."""

    def __init__(self, authority: str) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._authority = authority
        self._streams: dict[int, tuple[Sample, asyncio.Future[None]]] = {}
        self._bodies: deque[tuple[int, bytes]] = deque()  # that wait for the server to open its window

    def connection_made(self, transport: Any) -> None:  # uvloop's is not asyncio's
        self._transport = transport
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(2**30)
        self._flush()

    def data_received(self, data: bytes) -> None:
        now_s = time.monotonic()
        for event in self.h2.receive_data(data):
            match event:
                case h2.events.ResponseReceived():
                    self._streams[event.stream_id][0].start(dict(event.headers))
                case h2.events.DataReceived():
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    self._streams[event.stream_id][0].take(event.data, now_s)
                case h2.events.StreamEnded() | h2.events.StreamReset():
                    self._end(event.stream_id, now_s)
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        for stream in list(self._streams):
            self._end(stream, time.monotonic())

    def post(self, path: str, headers: Sequence[tuple[str, str]], body: bytes, sample: Sample) -> asyncio.Future[None]:
        """Send one request; the future is done when its answer has ended."""
        stream = self.h2.get_next_available_stream_id()
        ended = asyncio.get_running_loop().create_future()
        self._streams[stream] = (sample, ended)
        self.h2.send_headers(
            stream,
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":authority", self._authority),
                (":path", path),
                ("content-type", "application/json"),
                ("content-length", str(len(body))),
                *headers,
            ],
        )
        self._bodies.append((stream, body))
        self._flush()
        return ended

    def _end(self, stream: int, now_s: float) -> None:
        sample, ended = self._streams.pop(stream, (None, None))
        if sample is not None and ended is not None and not ended.done():
            sample.end(now_s)
            ended.set_result(None)

    def _flush(self) -> None:
        while self._bodies and self.h2.local_flow_control_window(self._bodies[0][0]) >= len(self._bodies[0][1]):
            self.h2.send_data(*self._bodies.popleft(), end_stream=True)
        self._transport.write(self.h2.data_to_send())

    def close(self) -> None:
        self._transport.close()


class Run:
    """The load of `sources` on a server, together, for `duration_s`."""

    def __init__(self, url: str, model: str, sources: Sequence[Source], duration_s: float, seed: int = 0) -> None:
        self._url = url
        self._model = model
        self._sources = sources
        self._duration_s = duration_s
        self._seed = seed
        self._connections: list[Connection] = []
        self._samples: list[Sample] = []

    async def samples(self, connections: int = 4, patience_s: float = 60.0) -> list[Sample]:
        """Send it, and wait so long for the last answers; every request's sample."""
        url = urlsplit(self._url)
        loop = asyncio.get_running_loop()
        for _ in range(connections):
            _, made = await loop.create_connection(lambda: Connection(url.netloc), url.hostname, url.port)
            self._connections.append(made)
        start_s = time.monotonic()
        await asyncio.gather(*(self._send(number, start_s, patience_s) for number in range(len(self._sources))))
        for connection in self._connections:
            connection.close()
        return self._samples

    async def _send(self, number: int, start_s: float, patience_s: float) -> None:
        source, chance = self._sources[number], random.Random(f"{self._seed} {number}")
        asks = []
        due_s = start_s
        while (due_s := due_s + chance.expovariate(source.rate)) < start_s + self._duration_s:
            await asyncio.sleep(max(0.0, due_s - time.monotonic()))
            asks.append(asyncio.ensure_future(self._ask(source, due_s, source.body(self._model, chance))))
        if asks:
            await asyncio.wait(asks, timeout=patience_s)

    async def _ask(self, source: Source, due_s: float, body: bytes) -> None:
        for attempt in range(1, source.retries + 2):
            sample = Sample(source, due_s, time.monotonic(), attempt)
            self._samples.append(sample)
            connection = self._connections[len(self._samples) % len(self._connections)]
            await connection.post("/v1/chat/completions", source.headers(), body, sample)
            if sample.retry_after_s is None:
                return
            due_s = sample.end_s + sample.retry_after_s
            await asyncio.sleep(due_s - time.monotonic())


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that at least `share` of `values` do not exceed; NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def report(samples: list[Sample], ttft_s: float, itl_s: float) -> dict[str, object]:
    """The figures of one run, in seconds and rates over the time until the last answer; goodput by these objectives."""
    good = [sample for sample in samples if sample.ok]
    elapsed_s = max((sample.end_s for sample in samples), default=0.0) - min((s.due_s for s in samples), default=0.0)
    met = [sample for sample in good if sample.ttft_s <= ttft_s and percentile(sample.itl_s or [0.0], 0.99) <= itl_s]
    figures: dict[str, object] = {"requests": len(samples), "ok": len(good)}
    figures["other"] = dict(sorted(Counter(f"{s.status} {s.code}".strip() for s in samples if not s.ok).items()))
    for name, values in {
        "ttft": [sample.ttft_s for sample in good],
        "itl": [gap for sample in good for gap in sample.itl_s],
        "e2e": [sample.e2e_s for sample in good],
        "left late": [sample.sent_s - sample.due_s for sample in samples],
    }.items():
        figures[name] = {f"p{share}": round(percentile(values, share / 100), 5) for share in (50, 95, 99)}
    figures["output_tokens_per_s"] = round(sum(s.tokens for s in good) / elapsed_s, 1) if elapsed_s else 0.0
    figures["goodput_per_s"] = round(len(met) / elapsed_s, 2) if elapsed_s else 0.0
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--rate", type=float, default=4.0, help="requests a second, on average")
    parser.add_argument("--duration-s", type=float, default=10.0, help="how long requests keep leaving")
    parser.add_argument("--patience-s", type=float, default=60.0, help="how long to wait for the last answers")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--input-words", type=int, default=32)
    parser.add_argument("--output-tokens", type=int, default=64)
    parser.add_argument("--key", help="API key")
    parser.add_argument("--priority", choices=["interactive", "standard", "batch"])
    parser.add_argument("--timeout-ms", type=int, help="deadline of each request")
    parser.add_argument("--retries", type=int, default=0, help="how often to come again when Retry-After says")
    parser.add_argument("--ttft-s", type=float, default=0.5, help="objective for goodput")
    parser.add_argument("--itl-s", type=float, default=0.1, help="objective for goodput, on a request's p99")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    source = Source(
        options.rate,
        options.input_words,
        options.output_tokens,
        key=options.key,
        priority=options.priority,
        timeout_ms=options.timeout_ms,
        retries=options.retries,
    )
    load = Run(options.url, options.model, [source], options.duration_s, options.seed)
    samples = uvloop.run(load.samples(options.connections, options.patience_s))
    print(json.dumps(report(samples, options.ttft_s, options.itl_s), indent=2))


if __name__ == "__main__":
    main()
