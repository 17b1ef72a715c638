"""What a front end wants said and not said, as the bytes that the engine reads."""

import struct

from aruntime.queue.steering import Steering, steering


def test_nothing_asked_is_nothing_sent() -> None:
    assert steering() == Steering(0, 0, 0, 0, b"")


def test_pairs_come_first_then_words_behind_their_lengths_then_the_grammar() -> None:
    said = steering([(7, -100.0), (9, 0.5)], [(1,), (2, 3, 4)], "root ::= 'ü'")
    assert said[:4] == (2, 2, 4, 13)
    pairs = struct.pack("<ifif", 7, -100.0, 9, 0.5)
    words = struct.pack("<6i", 1, 1, 3, 2, 3, 4)
    assert said.payload == pairs + words + "root ::= 'ü'".encode()
