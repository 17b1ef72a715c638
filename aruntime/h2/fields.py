"""Header fields of answers, written for HPACK (RFC 7541) without a dynamic table.

An answer's fields are few, and what differs between two answers (ids) would not be found in a table anyway. So there is
none to keep, to search, or to be steered by a client; a field costs a few bytes more and a tenth of the time.
"""

from collections.abc import Iterable
from functools import lru_cache

from hpack.hpack import encode_integer
from hpack.table import HeaderTable

_EMPTY_TABLE = b"\x20"  # a dynamic table size update, to 0


class FieldEncoder:
    """Takes the place of hpack's Encoder in h2."""

    def __init__(self) -> None:
        self._update = b""

    @property
    def header_table_size(self) -> int:
        """Bytes of the dynamic table."""
        return 0

    @header_table_size.setter
    def header_table_size(self, bytes_max: int) -> None:
        # The client's bound has changed: the next block must say that the table keeps it (RFC 7541, 4.2).
        self._update = _EMPTY_TABLE

    def encode(self, headers: Iterable[tuple[bytes, bytes]]) -> bytes:
        """A header block."""
        update, self._update = self._update, b""
        return update + b"".join([_field(name, value) for name, value in headers])


@lru_cache(maxsize=256)
def _field(name: bytes, value: bytes) -> bytes:
    index, values = HeaderTable.STATIC_TABLE_MAPPING.get(name, (0, {}))
    if value in values:
        return bytes((0x80 | values[value],))
    if index:
        return bytes(encode_integer(index, 4)) + _text(value)
    return b"\x00" + _text(name) + _text(value)


def _text(text: bytes) -> bytes:
    return bytes(encode_integer(len(text), 7)) + text
