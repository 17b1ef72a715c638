"""Clients that do what clients should not, one thing after another, each for some seconds.

    python bench/soak/misbehaving.py URL CLIENTS [--seed N]

Runs until it is ended; then their connections break off wherever they are. Says every second what was done so far, one
line of JSON: {behaviour: times}.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import random
import socket
import struct
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from urllib.parse import urlsplit

sys.path.insert(0, str(Path(__file__).parent.parent / "http2"))

from client import field, frame

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, CONTINUATION = 0, 1, 3, 4, 6, 9
END_STREAM, END_HEADERS = 1, 4
TURN_S = 2.0  # at least so long from one thing to the next, as long as a good client's pause
PATIENCE_S = 40.0  # with a server that does not end what it should
BODY = json.dumps(
    {
        "model": "demo",
        "messages": [{"role": "user", "content": "what is a canary rollout"}],
        "max_tokens": 2000,
        "ignore_eos": True,
        "stream": True,
    }
).encode()


class Line:
    """One connection, and what is said on it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, authority: str) -> None:
        self.reader, self.writer, self._authority = reader, writer, authority

    def greet(self, window: int = 65_535) -> None:
        """HTTP/2 begins; `window` is that of each stream."""
        self.writer.write(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", 4, window)))

    def headers(self, stream: int, *more: bytes, ends: bool = True) -> bytes:
        """A request of a stream; its body follows."""
        said = field(":method", "POST") + field(":scheme", "http") + field(":authority", self._authority)
        said += field(":path", "/v1/chat/completions") + field("content-type", "application/json") + b"".join(more)
        return frame(HEADERS, END_HEADERS if ends else 0, stream, said)

    def ask(self, stream: int = 1) -> None:
        """A whole request for a stream."""
        self.writer.write(self.headers(stream) + frame(DATA, END_STREAM, stream, BODY))

    def ask_http1(self) -> None:
        """The same over HTTP/1.1."""
        head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {self._authority}\r\ncontent-type: application/json\r\n"
        self.writer.write(f"{head}content-length: {len(BODY)}\r\n\r\n".encode() + BODY)

    async def hear(self, most: int = 65_536) -> bytes:
        """What has come."""
        return await asyncio.wait_for(self.reader.read(most), PATIENCE_S)

    async def until_closed(self) -> None:
        """Read whatever comes, to the end."""
        while await self.hear():
            pass

    async def until_reset(self) -> None:
        """Read whatever comes, to the server's RST_STREAM of the first stream."""
        heard = b""
        while frame(RESET, 0, 1, b"")[3:] not in heard:
            if not (more := await self.hear()):
                return
            heard = heard[-9:] + more

    def break_off(self) -> None:
        """Leave with a TCP reset."""
        own = self.writer.get_extra_info("socket")
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


Behaviour = Callable[[Line, random.Random], Awaitable[None]]


async def gives_no_window(line: Line, _chance: random.Random) -> None:
    line.greet(window=0)
    line.ask()
    await line.until_reset()


async def reads_a_byte_a_second(line: Line, _chance: random.Random) -> None:
    line.greet(window=2**31 - 1)
    for stream in (1, 3, 5):
        line.ask(stream)
    for _ in range(10):
        await line.hear(1)
        await asyncio.sleep(1)


async def reads_a_byte_a_second_of_http1(line: Line, _chance: random.Random) -> None:
    line.ask_http1()
    for _ in range(10):
        await line.hear(1)
        await asyncio.sleep(1)


async def resets_in_the_middle(line: Line, chance: random.Random) -> None:
    line.greet()
    for stream in range(1, 11, 2):
        line.ask(stream)
        await line.hear()
        await asyncio.sleep(chance.random() * 0.2)
        line.writer.write(frame(RESET, 0, stream, struct.pack(">I", 8)))


async def breaks_off_in_the_middle(line: Line, chance: random.Random) -> None:
    line.greet()
    line.ask()
    await line.hear()
    await asyncio.sleep(chance.random() * 0.3)
    line.break_off()


async def leaves_at_once(line: Line, _chance: random.Random) -> None:
    line.greet()
    line.ask()


async def sends_half_a_body(line: Line, _chance: random.Random) -> None:
    line.greet()
    line.writer.write(line.headers(1, field("content-length", str(len(BODY)))) + frame(DATA, 0, 1, BODY[:20]))
    await asyncio.sleep(5)


async def sends_half_a_body_by_http1(line: Line, _chance: random.Random) -> None:
    line.writer.write(b"POST /v1/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 500\r\n\r\n{")
    await asyncio.sleep(5)


async def resets_in_bursts(line: Line, _chance: random.Random) -> None:
    line.greet()
    for stream in range(1, 1_001, 2):
        line.writer.write(line.headers(stream) + frame(RESET, 0, stream, struct.pack(">I", 8)))
    await asyncio.sleep(1)


async def floods_with_pings(line: Line, _chance: random.Random) -> None:
    line.greet()
    line.writer.write(5_000 * frame(PING, 0, 0, bytes(8)))
    await line.until_closed()


async def floods_with_settings(line: Line, _chance: random.Random) -> None:
    line.greet()
    line.writer.write(5_000 * frame(SETTINGS, 0, 0))
    await line.until_closed()


async def has_huge_headers(line: Line, _chance: random.Random) -> None:
    line.greet()
    more = [field(f"x-{number}", 100 * "a") for number in range(130)]
    line.writer.write(line.headers(1, *more, ends=False))
    for flags in (0, 0, 0, END_HEADERS):
        line.writer.write(frame(CONTINUATION, flags, 1, b"".join(more)))
    await line.until_closed()


async def says_nonsense(line: Line, chance: random.Random) -> None:
    line.greet()
    for _ in range(20):
        line.writer.write(frame(chance.randrange(12), chance.randrange(256), chance.randrange(8), chance.randbytes(20)))
    await line.until_closed()


async def greets_slowly(line: Line, _chance: random.Random) -> None:
    for byte in PREFACE[:-1]:
        line.writer.write(bytes((byte,)))
        await asyncio.sleep(0.5)
    await line.until_closed()


async def says_its_headers_slowly(line: Line, _chance: random.Random) -> None:
    for byte in b"GET /v1/models HTTP/1.1\r\n":
        line.writer.write(bytes((byte,)))
        await asyncio.sleep(0.3)


async def does_not_wait_for_answers(line: Line, _chance: random.Random) -> None:
    for _ in range(50):
        line.writer.write(b"GET /v1/models HTTP/1.1\r\nhost: a\r\n\r\n")
    await asyncio.sleep(0.2)
    line.break_off()


async def breaks_off_http1(line: Line, chance: random.Random) -> None:
    line.ask_http1()
    await line.hear()
    await asyncio.sleep(chance.random() * 0.3)
    line.break_off()


BEHAVIOURS: tuple[Behaviour, ...] = (
    gives_no_window,
    resets_in_the_middle,
    sends_half_a_body,
    resets_in_bursts,
    reads_a_byte_a_second,
    breaks_off_in_the_middle,
    floods_with_pings,
    has_huge_headers,
    says_nonsense,
    leaves_at_once,
    greets_slowly,
    does_not_wait_for_answers,
    floods_with_settings,
    breaks_off_http1,
    reads_a_byte_a_second_of_http1,
    says_its_headers_slowly,
    sends_half_a_body_by_http1,
)


async def misbehave(url: str, number: int, chance: random.Random, done: Counter[str]) -> None:
    """One client, for ever: the behaviours in turn, from another one than its neighbours."""
    parts = urlsplit(url)
    first = number * len(BEHAVIOURS) // 4
    for behaviour in itertools.islice(itertools.cycle(BEHAVIOURS), first, None):
        begun_s = asyncio.get_running_loop().time()
        with contextlib.suppress(OSError, TimeoutError):
            own = socket.socket()
            own.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            own.setblocking(False)
            await asyncio.get_running_loop().sock_connect(own, (parts.hostname, parts.port))
            reader, writer = await asyncio.open_connection(sock=own, limit=2048)
            try:
                await behaviour(Line(reader, writer, parts.netloc), chance)
            finally:
                writer.close()
        done[behaviour.__name__] += 1
        await asyncio.sleep(max(0.0, begun_s + TURN_S - asyncio.get_running_loop().time()))


async def run(url: str, clients: int, seed: int) -> None:
    """All of them, until this process is ended."""
    done: Counter[str] = Counter()
    tasks = [
        asyncio.create_task(misbehave(url, number, random.Random(f"{seed} {number}"), done))
        for number in range(clients)
    ]
    while True:
        await asyncio.wait(tasks, timeout=1)
        for task in tasks:
            if task.done():
                task.result()
        print(json.dumps(done), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("url")
    parser.add_argument("clients", type=int)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    asyncio.run(run(options.url, options.clients, options.seed))


if __name__ == "__main__":
    main()
