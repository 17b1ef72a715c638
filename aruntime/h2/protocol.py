"""h2, set up as a server that many may talk to; and the ASGI scope of a request."""

import re
from collections.abc import Iterable
from typing import Any, cast
from urllib.parse import unquote

import hpack
from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import ConnectionTerminated, Event
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes, Settings
from hpack import Encoder
from hpack.exceptions import HPACKDecodingError, HPACKError, OversizedHeaderListError
from hypercorn.config import Config
from hyperframe.frame import Frame, GoAwayFrame

from aruntime.h2.fields import FieldEncoder

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
Fields = Iterable[tuple[bytes, bytes]]

_SWEEP_EVERY = 64
_TABLE_UPDATES_MAX = 2  # RFC 7541, 4.2: the smallest size in between, and the last
_KNOWN_SETTINGS = frozenset(SettingCodes)

# RFC 9113, 8.2: names are tokens in lower case; what belonged to one connection of HTTP/1.1 has no place here.
_NAME = re.compile(rb"[!#$%&'*+\-.^_`|~0-9a-z]+")
_NO_VALUE = re.compile(rb"[\x00\r\n]|\A[ \t]|[ \t]\Z")
_FORBIDDEN = frozenset((b"connection", b"proxy-connection", b"keep-alive", b"transfer-encoding", b"upgrade"))
_PSEUDO = frozenset((b":method", b":scheme", b":authority", b":path"))


class _Protocol(H2Connection):
    """h2, but for what would end a connection that has done no wrong.

    Its limit of open streams does, where one stream is to be refused. To count them it looks at all streams whenever
    one is opened, and forgets closed ones as it counts: here once in a while. And a client's goodbye would end what is
    still under way, while its windows go on opening (RFC 9113, 6.8).
    """

    MAX_CLOSED_STREAMS = 1_024  # that are remembered with how they ended; 65,536 would be 7 MB of a connection
    _asked = 0

    @property
    def open_inbound_streams(self) -> int:
        self._asked += 1
        if self._asked % _SWEEP_EVERY == 0:
            self._open_streams(1)
        return 0

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        event = ConnectionTerminated()
        event.error_code, event.last_stream_id = ErrorCodes(min(frame.error_code, 1)), frame.last_stream_id
        return [], [event]


class _Settings(Settings):
    """A client's settings. Unknown ones are ignored (RFC 9113, 6.5.2), where h2 would keep all 65,536."""

    def __setitem__(self, key: SettingCodes | int, value: int) -> None:
        if key in _KNOWN_SETTINGS:
            super().__setitem__(key, value)


class _Undecodable(ProtocolError):
    error_code = ErrorCodes.COMPRESSION_ERROR


class _Decoder(hpack.Decoder):
    """HPACK's decoder. A header block may change the table's size as often as it must, not once a byte.

    What cannot be decoded is an error of its own (RFC 9113, 4.3), which h2 does not tell from others.
    """

    _updates = 0

    def decode(self, data: bytes, raw: bool = False) -> Iterable[hpack.HeaderTuple]:
        self._updates = 0
        try:
            return super().decode(data, raw)
        except OversizedHeaderListError:
            raise
        except HPACKError as error:
            raise _Undecodable(str(error)) from None

    def _update_encoding_context(self, data: bytes | memoryview) -> int:
        self._updates += 1
        if self._updates > _TABLE_UPDATES_MAX:
            raise HPACKDecodingError("too many changes of the table's size")
        return super()._update_encoding_context(data)


def protocol(config: Config) -> H2Connection:
    """The state of one connection."""
    made = _Protocol(
        H2Configuration(
            client_side=False,
            header_encoding=None,
            validate_inbound_headers=False,  # `request_scope` does: a wrong request is no reason to end the others
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
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
    made.remote_settings = _Settings(client=True)
    made.decoder = _Decoder(config.h2_max_header_list_size)
    return made


def request_scope(headers: Fields, *, has_body: bool, common: dict[str, Any]) -> dict[str, Any] | None:
    """The ASGI scope of a request; None for one that is malformed (RFC 9113, 8), or has no path (CONNECT)."""
    pseudo: dict[bytes, bytes] = {}
    fields: list[tuple[bytes, bytes]] = []
    hosts: list[bytes] = []
    lengths: list[bytes] = []
    for name, value in headers:
        if name[:1] == b":":
            if name in pseudo or name not in _PSEUDO or fields or hosts or _NO_VALUE.search(value):
                return None
            pseudo[name] = value
        elif not _is_field(name, value):
            return None
        elif name == b"host":
            hosts.append(value)
        else:
            fields.append((name, value))
            if name == b"content-length":
                lengths.append(value)
    method, path, authority = pseudo.get(b":method"), pseudo.get(b":path"), pseudo.get(b":authority")
    if not method or b":scheme" not in pseudo or path is None or not _is_path(path, method) or len(lengths) > 1:
        return None
    if not has_body and lengths not in ([], [b"0"]):
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
        "method": method.decode("latin-1").upper(),
        "path": unquote(raw_path.decode("ascii")),
        "raw_path": raw_path,
        "query_string": query,
        "headers": [*((b"host", host) for host in hosts), *fields],
        "state": common["state"].copy(),
        "extensions": {},
    }


def are_trailers(headers: Fields) -> bool:
    """Whether these fields may come after a body."""
    return all(_is_field(name, value) for name, value in headers)


def _is_field(name: bytes, value: bytes) -> bool:
    if _NAME.fullmatch(name) is None or _NO_VALUE.search(value) is not None or name in _FORBIDDEN:
        return False
    return name != b"te" or value.lower() == b"trailers"


def _is_path(path: bytes, method: bytes) -> bool:
    return path.isascii() and (path.startswith(b"/") or (path == b"*" and method == b"OPTIONS"))
