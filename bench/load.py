"""An open-loop load generator over HTTP/2: requests leave when they are due, whether or not earlier ones were answered.

    python bench/load.py --url http://127.0.0.1:8000 --model demo --rate 8 --duration-s 20

Arrivals are Poisson from a seed; requests are spread over `--connections` clear-text HTTP/2 connections. Prints TTFT,
ITL and E2E percentiles (seconds), output tokens a second, and goodput: the rate of requests that met every objective.
A latency is taken from the moment a request was due, so a client that falls behind does not flatter the server.
"""

import argparse
import asyncio
import json
import random
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import h2.config
import h2.connection
import h2.events

_WORDS = "what is a canary rollout and how does the server batch decode steps under load with a deadline".split()


@dataclass(slots=True)
class Sample:
    """One request: when it was due, when its tokens came, how it ended."""

    due_s: float
    status: int = 0
    token_s: list[float] = field(default_factory=list)
    end_s: float = 0.0
    done: bool = False  # saw [DONE]
    tokens: int = 0  # as the server counts them
    tail: bytes = b""

    def take(self, data: bytes, now_s: float) -> None:
        """Read the events of one DATA frame; an event may be cut across frames."""
        *events, self.tail = (self.tail + data).split(b"\n\n")
        for event in events:
            if event == b"data: [DONE]":
                self.done = True
            elif b'"completion_tokens":' in event:
                self.tokens = json.loads(event.removeprefix(b"data: "))["usage"]["completion_tokens"]
            elif event.startswith(b"data: ") and b'"content":' in event and b'"content":""' not in event:
                self.token_s.append(now_s)

    @property
    def ok(self) -> bool:
        return self.status == 200 and self.done and bool(self.token_s)

    @property
    def ttft_s(self) -> float:
        return self.token_s[0] - self.due_s

    @property
    def itl_s(self) -> list[float]:
        return [later - sooner for sooner, later in zip(self.token_s, self.token_s[1:], strict=False)]


class Connection(asyncio.Protocol):
    """One HTTP/2 connection in clear text with prior knowledge."""

    def __init__(self, authority: str) -> None:
        self.h2 = h2.connection.H2Connection(h2.config.H2Configuration(header_encoding="utf-8"))
        self._authority = authority
        self._streams: dict[int, tuple[Sample, asyncio.Future[None]]] = {}

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self.h2.initiate_connection()
        self.h2.increment_flow_control_window(2**30)
        self._flush()

    def data_received(self, data: bytes) -> None:
        now_s = time.monotonic()
        for event in self.h2.receive_data(data):
            match event:
                case h2.events.ResponseReceived():
                    headers = dict(event.headers)
                    self._streams[event.stream_id][0].status = int(headers[":status"])
                case h2.events.DataReceived():
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
                    self._streams[event.stream_id][0].take(event.data, now_s)
                case h2.events.StreamEnded() | h2.events.StreamReset():
                    self._end(event.stream_id, now_s)
        self._flush()

    def connection_lost(self, error: Exception | None) -> None:
        for stream in list(self._streams):
            self._end(stream, time.monotonic())

    def post(self, path: str, body: bytes, sample: Sample) -> "asyncio.Future[None]":
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
            ],
        )
        self.h2.send_data(stream, body, end_stream=True)
        self._flush()
        return ended

    def _end(self, stream: int, now_s: float) -> None:
        sample, ended = self._streams.pop(stream, (None, None))
        if sample is not None and ended is not None and not ended.done():
            sample.end_s = now_s
            ended.set_result(None)

    def _flush(self) -> None:
        self._transport.write(self.h2.data_to_send())

    def close(self) -> None:
        self._transport.close()


async def run(options: argparse.Namespace) -> list[Sample]:
    """Send the load; returns every request's sample."""
    url = urlsplit(options.url)
    loop = asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda: Connection(url.netloc), url.hostname, url.port))[1]
        for _ in range(options.connections)
    ]
    chance = random.Random(options.seed)
    samples: list[Sample] = []
    ends = []
    start_s = due_s = time.monotonic()
    while (due_s := due_s + chance.expovariate(options.rate)) < start_s + options.duration_s:
        await asyncio.sleep(max(0.0, due_s - time.monotonic()))
        sample = Sample(due_s)
        samples.append(sample)
        connection = connections[len(samples) % len(connections)]
        ends.append(connection.post("/v1/chat/completions", _body(options, chance), sample))
    await asyncio.wait(ends, timeout=options.patience_s)
    for connection in connections:
        connection.close()
    return samples


def _body(options: argparse.Namespace, chance: random.Random) -> bytes:
    text = " ".join(chance.choice(_WORDS) for _ in range(options.input_words))
    return json.dumps(
        {
            "model": options.model,
            "messages": [{"role": "user", "content": text}],
            "max_tokens": options.output_tokens,
            "ignore_eos": True,
            "temperature": 0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
    ).encode()


def percentile(values: list[float], share: float) -> float:
    """The smallest value that at least `share` of `values` do not exceed; NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def report(samples: list[Sample], options: argparse.Namespace) -> dict[str, object]:
    """The figures of one run, in seconds and rates over the time until the last answer."""
    good = [sample for sample in samples if sample.ok]
    elapsed_s = max((sample.end_s for sample in samples), default=0.0) - min((s.due_s for s in samples), default=0.0)
    itl_s = [gap for sample in good for gap in sample.itl_s]
    met = [
        sample
        for sample in good
        if sample.ttft_s <= options.ttft_s and percentile(sample.itl_s or [0.0], 0.99) <= options.itl_s
    ]
    figures: dict[str, object] = {"requests": len(samples), "ok": len(good)}
    statuses = [sample.status for sample in samples if not sample.ok]
    figures["other"] = {status: statuses.count(status) for status in sorted(set(statuses))}
    for name, values in {
        "ttft": [sample.ttft_s for sample in good],
        "itl": itl_s,
        "e2e": [sample.end_s - sample.due_s for sample in good],
    }.items():
        figures[name] = {f"p{share}": round(percentile(values, share / 100), 5) for share in (50, 95, 99)}
    figures["output_tokens_per_s"] = round(sum(s.tokens for s in good) / elapsed_s, 1) if elapsed_s else 0.0
    figures["goodput_per_s"] = round(len(met) / elapsed_s, 2) if elapsed_s else 0.0
    return figures


def options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="demo")
    parser.add_argument("--rate", type=float, default=4.0, help="requests a second, on average")
    parser.add_argument("--duration-s", type=float, default=10.0, help="how long requests keep leaving")
    parser.add_argument("--patience-s", type=float, default=60.0, help="how long to wait for the last answers")
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--input-words", type=int, default=32)
    parser.add_argument("--output-tokens", type=int, default=64)
    parser.add_argument("--ttft-s", type=float, default=0.5, help="objective for goodput")
    parser.add_argument("--itl-s", type=float, default=0.1, help="objective for goodput, on a request's p99")
    parser.add_argument("--seed", type=int, default=0)
    return parser


if __name__ == "__main__":
    chosen = options().parse_args()
    print(json.dumps(report(asyncio.run(run(chosen)), chosen), indent=2))
