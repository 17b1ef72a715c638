"""The control socket keeps borders, carries descriptors, tells the end, and bounds what it takes."""

import os
import socket

import pytest
from hypothesis import given
from hypothesis import strategies as st

from aruntime.queue.post import DESCRIPTORS_MAX, MESSAGE_BYTES_MAX, Letter, Post, pair


def received(post: Post) -> Letter:
    letter = post.receive()
    assert letter is not None
    return letter


@given(messages=st.lists(st.binary(min_size=1, max_size=2000), max_size=20))
def test_messages_arrive_whole_and_in_order(messages: list[bytes]) -> None:
    left, right = pair()
    for message in messages:
        left.send(message)
    assert [received(right).data for _ in messages] == messages
    left.close()
    assert right.receive() is None
    right.close()


def test_descriptors_name_the_same_file_and_are_close_on_exec() -> None:
    left, right = pair()
    fds = [os.memfd_create(f"file{i}") for i in range(DESCRIPTORS_MAX)]
    left.send(b"m", fds)
    letter = received(right)
    assert [os.fstat(fd).st_ino for fd in letter.fds] == [os.fstat(fd).st_ino for fd in fds]
    assert not any(os.get_inheritable(fd) for fd in letter.fds)
    letter.discard()
    for fd in fds:
        os.close(fd)
    left.close()
    right.close()


def test_the_largest_message_passes_and_a_larger_or_empty_one_is_refused() -> None:
    left, right = pair()
    left.send(b"x" * MESSAGE_BYTES_MAX)
    assert len(received(right).data) == MESSAGE_BYTES_MAX
    for message in (b"", b"x" * (MESSAGE_BYTES_MAX + 1)):
        with pytest.raises(ValueError, match="bytes, got"):
            left.send(message)
    with pytest.raises(ValueError, match="descriptors, got"):
        left.send(b"x", [0] * (DESCRIPTORS_MAX + 1))
    left.close()
    right.close()


def test_too_many_descriptors_or_bytes_from_a_hostile_peer_are_dropped_and_leak_nothing() -> None:
    raw, end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    post = Post(end)
    before = set(os.listdir("/proc/self/fd"))
    socket.send_fds(raw, [b"x"], [raw.fileno()] * (DESCRIPTORS_MAX + 5))
    with pytest.raises(ValueError, match="longer"):
        post.receive()
    raw.send(b"x" * (MESSAGE_BYTES_MAX + 1))
    with pytest.raises(ValueError, match="longer"):
        post.receive()
    assert set(os.listdir("/proc/self/fd")) == before
    raw.send(b"still here")
    assert received(post).data == b"still here"
    raw.close()
    post.close()


def test_trying_never_waits() -> None:
    left, right = pair()
    with pytest.raises(BlockingIOError):
        right.try_receive()
    sent = 0
    while left.try_send(b"x" * 10_000):
        sent += 1
        assert sent < 10_000
    assert sent > 1
    right.close()
    with pytest.raises(OSError, match=r"pipe|reset"):
        left.send(b"x")
    left.close()


def test_a_socket_of_another_kind_is_refused() -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    with pytest.raises(ValueError, match="SEQPACKET"):
        Post(left)
    left.close()
    right.close()


def test_the_last_word_of_a_peer_that_left_without_listening_is_heard() -> None:
    mine, theirs = pair()
    mine.send(b"unread")
    theirs.send(b"first")
    theirs.send(b"last")
    theirs.close()
    heard = [mine.try_receive(), mine.receive()]
    assert [letter and letter.data for letter in heard] == [b"first", b"last"]
    assert mine.receive() is None
    mine.close()
