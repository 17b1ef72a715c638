"""One streamed answer, read while the test does something else."""

import threading

import httpx
from e2e_server import completion, events


class Stream(threading.Thread):
    """Reads one answer in a thread, from its first event on, and keeps what it got. It closes `client`."""

    def __init__(self, client: httpx.Client, tokens: int = 30_000, **more: object) -> None:
        super().__init__(daemon=True)
        self.lines: list[str] = []
        self.first = threading.Event()
        self.broken = False
        self._client, self._ask = client, completion(tokens, **more)
        self.start()
        assert self.first.wait(20)

    def run(self) -> None:
        try:
            with self._client as client, client.stream("POST", "/v1/completions", json=self._ask) as answer:
                for line in answer.iter_lines():
                    self.lines.append(line)
                    self.first.set()
        except httpx.TransportError:
            self.broken = True

    def last(self) -> str:
        """The last event, once the answer has ended."""
        self.join(60)
        assert not self.is_alive()
        return events(self.lines)[-1]
