"""A played admin listener: each request gets the next answer of the test, and the last one again and again."""

import json
import threading
from collections.abc import Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

Answer = tuple[int, Any]
"""A status and what the JSON says; status 0 closes the connection unanswered."""


class PlayedAdmin:
    """`asked` are the requests that came, as method, path and key."""

    def __init__(self, answers: Sequence[Answer]) -> None:
        self.asked: list[tuple[str, str, str | None]] = []
        self._answers = list(answers)
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        admin = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                admin.asked.append((self.command, self.path, self.headers.get("authorization")))
                status, said = admin._answers.pop(0) if len(admin._answers) > 1 else admin._answers[0]
                if status:
                    body = json.dumps(said).encode()
                    self.send_response(status)
                    self.send_header("content-length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                return

        return Handler
