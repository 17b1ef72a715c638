"""The two ways in which clients reach a server: in clear text, HTTP/2 by prior knowledge; over TLS, HTTP/2 by ALPN."""

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from e2e_server import Server, until

ENDLESS_TOKENS = 30_000


@dataclass(frozen=True)
class Front:
    """A running server; `cafile` is what those who come over TLS trust."""

    server: Server
    cafile: Path | None = None

    @property
    def url(self) -> str:
        return self.server.url

    def httpx(self, *, http2: bool) -> dict[str, Any]:
        """What a client of httpx, or httpx2, is made with to speak this protocol and no other."""
        trust = ssl.create_default_context(cafile=self.cafile) if self.cafile else True
        return {"verify": trust, "http1": not http2, "http2": http2}

    def is_idle(self) -> bool:
        """Whether nothing is computed, or waits to be."""
        return self.server.metric("aruntime_sequences_in_flight") == 0

    def until_idle(self) -> None:
        """Wait until what was left is computed no further: long before it would have ended by itself."""
        until(self.is_idle, 10)
