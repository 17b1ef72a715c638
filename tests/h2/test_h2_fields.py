"""Header blocks of answers, as any client's HPACK decoder reads them."""

import hpack
from hypothesis import given
from hypothesis import strategies as st

from aruntime.h2.fields import FieldEncoder

NAMES = st.sampled_from([b":status", b"content-type", b"content-length", b"date", b"x-request-id", b"x" * 300])
FIELDS = st.lists(st.tuples(NAMES, st.one_of(st.just(b""), st.just(b"200"), st.binary(max_size=300))), max_size=12)


@given(blocks=st.lists(FIELDS, max_size=4))
def test_any_fields_are_read_as_they_were_written(blocks: list[list[tuple[bytes, bytes]]]) -> None:
    encoder, decoder = FieldEncoder(), hpack.Decoder()
    for fields in blocks:
        assert list(decoder.decode(encoder.encode(fields), raw=True)) == fields


def test_a_client_that_wants_a_smaller_table_is_told_once_that_there_is_none() -> None:
    encoder, decoder = FieldEncoder(), hpack.Decoder()
    decoder.max_allowed_table_size = 100
    encoder.header_table_size = 100
    first, second = (encoder.encode([(b":status", b"200")]) for _ in range(2))
    assert (first, second) == (b"\x20\x88", b"\x88")
    assert list(decoder.decode(first + second)) == [(":status", "200")] * 2
