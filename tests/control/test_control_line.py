"""A line never waits for its peer, and hangs up on one that makes no sense; a switchboard numbers front ends."""

import asyncio
import os

import pytest

from aruntime.admission.ledger import TOKENS, Ledger
from aruntime.control.certificate import Certificate
from aruntime.control.line import Line
from aruntime.control.switchboard import Switchboard
from aruntime.control.tenants import Tenants
from aruntime.queue.columns import FRONT_ENDS_MAX
from aruntime.queue.post import pair
from aruntime.queue.table import Table
from aruntime.wire.control import AttachFrontEnd, Failed, Message, Ready, Stop, encode


class Peer:
    """A line whose other end is in the hands of the test."""

    def __init__(self) -> None:
        mine, self.post = pair()
        self.heard: list[Message] = []
        self.ended = asyncio.Event()
        self.line = Line(mine, lambda message, _: self.heard.append(message), self.ended.set)


async def test_messages_come_in_order_and_the_end_once() -> None:
    peer = Peer()
    peer.post.send(encode(Ready()))
    peer.post.send(encode(Failed(reason="x")))
    peer.post.close()
    await asyncio.wait_for(peer.ended.wait(), 5)
    assert peer.heard == [Ready(), Failed(reason="x")]


async def test_a_peer_that_does_not_read_is_hung_up_on() -> None:
    peer = Peer()
    for _ in range(10_000):
        peer.line.send(Failed(reason="x" * 1000))
    await asyncio.wait_for(peer.ended.wait(), 5)
    peer.post.close()


async def test_a_peer_that_has_gone_is_noticed_when_sent_to() -> None:
    peer = Peer()
    peer.post.close()
    peer.line.send(Stop())
    await asyncio.wait_for(peer.ended.wait(), 5)
    peer.line.send(Stop())  # nobody is there; nothing happens


async def test_what_comes_with_too_few_descriptors_is_refused_and_nothing_leaks() -> None:
    peer = Peer()
    before = len(os.listdir("/proc/self/fd"))
    peer.post.send(encode(AttachFrontEnd(front_end=1, epoch=1)), [0])
    await asyncio.wait_for(peer.ended.wait(), 5)
    assert peer.heard == []
    peer.post.close()
    assert len(os.listdir("/proc/self/fd")) == before - 2  # both ends are closed


async def test_no_word_comes_after_the_line_was_closed() -> None:
    peer = Peer()
    peer.post.send(encode(Ready()))
    peer.line.close()
    await asyncio.sleep(0.01)
    assert peer.heard == []
    assert not peer.ended.is_set()
    peer.post.close()


async def test_front_ends_have_numbers_of_their_own_up_to_the_last_row() -> None:
    switchboard = Switchboard("/", Tenants(), Certificate(), lambda: None)
    peers = [Peer() for _ in range(FRONT_ENDS_MAX + 1)]
    joined = [switchboard.join(peer.line, os.open("/dev/null", os.O_RDONLY)) for peer in peers[:FRONT_ENDS_MAX]]
    assert sorted(front_end.number for front_end in joined) == list(range(1, FRONT_ENDS_MAX + 1))
    with pytest.raises(ValueError, match=f"{FRONT_ENDS_MAX} front ends already"):
        switchboard.join(peers[-1].line, 0)
    switchboard.leave(joined[40])
    assert switchboard.join(peers[-1].line, os.open("/dev/null", os.O_RDONLY)).number == joined[40].number
    for front_end in list(switchboard.front_ends.values()):
        switchboard.leave(front_end)
    for peer in peers:
        peer.post.close()


async def test_a_front_end_that_leaves_takes_along_what_it_had_in_flight_and_not_what_it_has_spent() -> None:
    switchboard = Switchboard("/", Tenants(), Certificate(), lambda: None)
    peers = [Peer(), Peer()]
    front_ends = [switchboard.join(peer.line, os.open("/dev/null", os.O_RDONLY)) for peer in peers]
    for peer in peers:
        peer.post.receive().discard()  # the tenants
    letters = [peer.post.receive() for peer in peers]
    ledgers = [Ledger(Table(letter.fds[0]), place.number) for letter, place in zip(letters, front_ends, strict=True)]
    for ledger in ledgers:
        assert ledger.try_hold(3, 2)
        assert ledger.try_spend(3, TOKENS, 30, 100, 1e6) == 0
    switchboard.leave(front_ends[0])
    assert ledgers[1].held(3) == 2
    assert ledgers[1].level(3, TOKENS, 1e6) == pytest.approx(0.4)
    switchboard.leave(front_ends[1])
    switchboard.close()
    for peer, letter in zip(peers, letters, strict=True):
        letter.discard()
        peer.post.close()
