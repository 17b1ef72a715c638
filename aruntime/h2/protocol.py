"""h2, set up as a server that many may talk to; and the ASGI scope of a request."""

from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import unquote

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.settings import SettingCodes, Settings
from hpack import Encoder
from hypercorn.config import Config

from aruntime.h2.fields import FieldEncoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SWEEP_EVERY = 64


class _Protocol(H2Connection):
    """h2, but for its limit of open streams: it would end the connection, where one stream is to be refused.

    It also counts all streams whenever one is opened, and forgets closed ones as it counts: here once in a while.
    """

    _asked = 0

    @property
    def open_inbound_streams(self) -> int:
        self._asked += 1
        if self._asked % _SWEEP_EVERY == 0:
            self._open_streams(1)
        return 0


def protocol(config: Config) -> H2Connection:
    """The state of one connection."""
    made = _Protocol(
        H2Configuration(
            client_side=False, header_encoding=None, validate_outbound_headers=False, normalize_outbound_headers=False
        )
    )
    made.local_settings = Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: config.h2_max_concurrent_streams,
            SettingCodes.MAX_HEADER_LIST_SIZE: config.h2_max_header_list_size,
        },
    )
    made.encoder = cast(Encoder, FieldEncoder())
    made.decoder.max_header_list_size = config.h2_max_header_list_size
    return made


def request_scope(headers: Iterable[tuple[bytes, bytes]], common: dict[str, Any]) -> dict[str, Any] | None:
    """The ASGI scope of a request; None for one that has no path (CONNECT), or a path that is not ASCII."""
    method = path = authority = None
    fields, hosts = [], []
    for name, value in headers:
        match name:
            case b":method":
                method = value.decode("latin-1").upper()
            case b":path":
                path = value
            case b":authority":
                authority = value
            case b":scheme":
                pass
            case b"host":
                hosts.append(value)
            case _:
                fields.append((name, value))
    if method is None or path is None or not path.isascii():
        return None
    if authority is not None and all(host == authority for host in hosts):
        hosts = [authority]
    elif authority is not None:
        hosts.append(authority)  # the application sees that they differ
    raw_path, _, query = path.partition(b"?")
    return {
        **common,
        "type": "http",
        "http_version": "2",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "method": method,
        "path": unquote(raw_path.decode("ascii")),
        "raw_path": raw_path,
        "query_string": query,
        "headers": [*((b"host", host) for host in hosts), *fields],
        "state": common["state"].copy(),
        "extensions": {},
    }
