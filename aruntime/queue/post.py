"""The control socket: whole messages with file descriptors, between two processes of one user.

AF_UNIX SOCK_SEQPACKET keeps the borders of messages and tells when the peer has gone; SCM_RIGHTS carries descriptors.
A message is 1 to MESSAGE_BYTES_MAX bytes and 0 to DESCRIPTORS_MAX descriptors; what is longer travels as an enclosure,
a sealed memory file. What it says is the business of `aruntime.wire.control`; nothing here interprets a byte of it.
"""

import array
import fcntl
import os
import socket
from collections.abc import Sequence
from typing import NamedTuple

MESSAGE_BYTES_MAX = 64 * 1024
DESCRIPTORS_MAX = 8
ENCLOSURE_BYTES_MAX = 1 << 20

_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE
_ITEM_BYTES = array.array("i").itemsize


class Letter(NamedTuple):
    """One message as it came. The descriptors belong to the receiver, close-on-exec."""

    data: bytes
    fds: list[int]

    def discard(self) -> None:
        """Close the descriptors: for a letter that is refused."""
        for fd in self.fds:
            os.close(fd)


class Post:
    """One end of a control socket. Owns the socket."""

    def __init__(self, end: socket.socket) -> None:
        if end.family != socket.AF_UNIX or end.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) != socket.SOCK_SEQPACKET:
            raise ValueError("want a unix socket of type SEQPACKET")
        end.setblocking(True)
        self._socket = end

    @classmethod
    def from_fd(cls, fd: int) -> "Post":
        """The end that this process has inherited as descriptor `fd`. From now on the post owns it."""
        os.set_inheritable(fd, False)
        return cls(socket.socket(fileno=fd))

    def fileno(self) -> int:
        """For poll and for an event loop's readers; -1 when closed."""
        return self._socket.fileno()

    def send(self, message: bytes, fds: Sequence[int] = ()) -> None:
        """Send, and wait for room. OSError when the peer has gone. The descriptors stay the caller's too."""
        self._send(message, fds, 0)

    def try_send(self, message: bytes, fds: Sequence[int] = ()) -> bool:
        """Send without waiting. False: the peer has not read for long and there is no room."""
        try:
            self._send(message, fds, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        return True

    def receive(self) -> Letter | None:
        """The next letter, waiting for it; None when the peer has gone. ValueError: it was too long, and is dropped."""
        return self._receive(0)

    def try_receive(self) -> Letter | None:
        """As `receive`, but BlockingIOError instead of waiting."""
        return self._receive(socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Hang up; the peer sees the end."""
        self._socket.close()

    def _send(self, message: bytes, fds: Sequence[int], flags: int) -> None:
        if not 0 < len(message) <= MESSAGE_BYTES_MAX:
            raise ValueError(f"a message is 1 to {MESSAGE_BYTES_MAX} bytes, got {len(message)}")
        if len(fds) > DESCRIPTORS_MAX:
            raise ValueError(f"a message carries at most {DESCRIPTORS_MAX} descriptors, got {len(fds)}")
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self._socket.sendmsg([message], rights, flags | socket.MSG_NOSIGNAL)

    def _receive(self, flags: int) -> Letter | None:
        room = socket.CMSG_SPACE(DESCRIPTORS_MAX * _ITEM_BYTES)
        try:
            data, rights, got, _ = self._socket.recvmsg(MESSAGE_BYTES_MAX, room, flags | socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            # The peer left without reading all that it was told. That is told once, before what it said itself.
            return self._receive(flags)
        letter = Letter(data, _descriptors(rights))
        if got & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            letter.discard()
            raise ValueError("a letter was longer than a letter may be")
        return letter if data else None  # an empty message cannot be sent, so this is the end


def pair() -> tuple[Post, Post]:
    """Two ends that talk to each other."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    return Post(left), Post(right)


def enclose(data: bytes) -> int:
    """A memory file that holds `data` and never changes; its descriptor is the caller's."""
    if len(data) > ENCLOSURE_BYTES_MAX:
        raise ValueError(f"an enclosure is at most {ENCLOSURE_BYTES_MAX} bytes, got {len(data)}")
    fd = os.memfd_create("enclosure", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.write(fd, data)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    return fd


def read_enclosure(fd: int) -> bytes:
    """What an enclosure holds. ValueError when it is too long, OSError when it is no file."""
    data = os.pread(fd, ENCLOSURE_BYTES_MAX + 1, 0)
    if len(data) > ENCLOSURE_BYTES_MAX:
        raise ValueError(f"an enclosure was longer than {ENCLOSURE_BYTES_MAX} bytes")
    return data


def _descriptors(rights: list[tuple[int, int, bytes]]) -> list[int]:
    fds = array.array("i")
    for level, kind, data in rights:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % fds.itemsize])
    return list(fds)
