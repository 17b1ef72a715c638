"""A client that does not read, over HTTP/2: it holds neither memory nor steps, and its neighbours see nothing of it."""

import json
from pathlib import Path

import h2.events
import httpx
from e2e_http2 import RawClient
from e2e_server import Server, completion, events, until

WINDOW = 1_000
TOKENS = 1_500  # as events they are some 300 KiB: more than a window and what may be pending
WAITS_BYTES_MAX = 8 << 20  # what a front end may grow by, for one client; the answers would be more


def whole(server: Server, tokens: int, **more: object) -> str:
    """What the server says to somebody who reads."""
    body = completion(tokens, stream=False, **more)
    answer = httpx.post(f"{server.url}/v1/completions", json=body, timeout=60).raise_for_status()
    text: str = answer.json()["choices"][0]["text"]
    return text


def read_on(client: RawClient, streams: list[int]) -> dict[int, str]:
    """Open the windows, and read every stream to its end: the texts."""
    client.open_window(None, 1 << 24)
    for stream in streams:
        client.open_window(stream, 1 << 22)
    left = set(streams)
    while left:
        for event in client.hear():
            if isinstance(event, h2.events.StreamEnded):
                left.discard(event.stream_id)
            assert not isinstance(event, h2.events.StreamReset)
    texts = {}
    for stream in streams:
        *chunks, done = events(client.bodies[stream].decode().splitlines())
        assert done == "[DONE]"
        texts[stream] = "".join(choice["text"] for chunk in chunks for choice in json.loads(chunk)["choices"])
    return texts


def resident_bytes(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096


def test_streams_that_are_not_read_are_paused_and_lose_nothing(server: Server) -> None:
    said = whole(server, TOKENS)
    (front_end,) = server.front_ends()
    before = resident_bytes(front_end)
    with RawClient(server.url, window=WINDOW) as client:
        stuck = [client.post("/v1/completions", completion(TOKENS)) for _ in range(8)]
        until(lambda: server.metric("aruntime_sequences_paused") == 8, 30)
        stood = server.metric("aruntime_output_tokens_total")
        neighbour = client.post("/v1/completions", completion(2))  # on the same connection
        while not any(isinstance(one, h2.events.StreamEnded) and one.stream_id == neighbour for one in client.hear()):
            continue
        assert said.startswith(whole(server, 20))  # on another
        until(lambda: server.metric("aruntime_sequences_in_flight") == 8)
        assert server.metric("aruntime_output_tokens_total") == stood + 2 + 20
        assert resident_bytes(front_end) - before < WAITS_BYTES_MAX
        assert read_on(client, stuck) == {stream: said for stream in stuck}
    until(lambda: server.metric("aruntime_blocks_free") == server.metric("aruntime_blocks"))


def test_what_is_paused_gives_its_blocks_to_those_who_read(repository: Path, tmp_path: Path) -> None:
    with Server(repository, tmp_path / "log", "--cache-bytes", "1M") as server:
        blocks = server.metric("aruntime_blocks")
        said = whole(server, TOKENS)
        with RawClient(server.url, window=WINDOW) as client:
            stuck = []
            while server.metric("aruntime_blocks_free") > blocks / 2:
                stuck.append(client.post("/v1/completions", completion(TOKENS, prompt=f"{len(stuck)} {'x' * 400}")))
                paused = len(stuck)
                until(lambda: server.metric("aruntime_sequences_paused") == paused, 30)  # noqa: B023
            assert server.metric("aruntime_preemptions_total") == 0
            assert whole(server, TOKENS) == said
            assert server.metric("aruntime_preemptions_total") > 0
            expected = [whole(server, TOKENS, prompt=f"{number} {'x' * 400}") for number in range(len(stuck))]
            assert list(read_on(client, stuck).values()) == expected
        until(lambda: server.metric("aruntime_blocks_free") == blocks)
