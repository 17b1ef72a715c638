"""How front ends that plain hypercorn has started meet one supervisor: at a unix socket in a folder of this user's own.

The first to come starts the supervisor, under a lock, and hands it the listening socket; the supervisor leaves, under
the same lock, when its last front end has gone. Both ends check that the other is the same user.
"""

import contextlib
import fcntl
import hashlib
import os
import select
import socket
import stat
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

from aruntime.control.launcher import environment, python
from aruntime.queue.post import Post

_BACKLOG = 64


def runtime_folder() -> Path:
    """A folder that only this user can enter. PermissionError when somebody else has made it first."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    folder = Path(given) / "aruntime" if given else Path(f"/tmp/aruntime-{os.getuid()}")
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    status = folder.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.getuid() or status.st_mode & 0o077:
        raise PermissionError(f"{folder} is not a folder of this user's alone")
    return folder


def place(*marks: str) -> Path:
    """The socket where those meet who have the same parent process and the same `marks`."""
    parent = os.getppid()
    with open(f"/proc/{parent}/stat") as file:
        started = file.read().rsplit(")", 1)[1].split()[19]  # field 22 of proc(5): a number may be used again
    digest = hashlib.sha256("\0".join([str(parent), started, *marks]).encode())
    return runtime_folder() / f"{digest.hexdigest()[:16]}.sock"


def find_or_start(path: Path, module: str) -> Post:
    """Connect to the supervisor at `path`; when there is none, start `module --listen-fd N --listen-path PATH`."""
    with locked(path.parent):
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            return _connect(path)
        path.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
            listener.bind(str(path))
            listener.listen(_BACKLOG)
            fd = listener.fileno()
            subprocess.Popen(
                python(module, "--listen-fd", str(fd), "--listen-path", str(path)),
                stdin=subprocess.DEVNULL,
                pass_fds=[fd],
                env=environment(),
                start_new_session=True,  # it outlives this front end, and ends with the last
            )
            return _connect(path)


def accept(listener: socket.socket) -> tuple[Post, int] | None:
    """A front end that has connected, and its process id; None when it belongs to another user."""
    end, _ = listener.accept()
    pid, uid = _peer(end)
    if uid != os.getuid():
        end.close()
        return None
    return Post(end), pid


def retire(listener: socket.socket, path: Path) -> bool:
    """Close the meeting place. False, and it stays, when somebody has just come."""
    with locked(path.parent):
        if select.select([listener], [], [], 0)[0]:
            return False
        path.unlink(missing_ok=True)
        listener.close()
        return True


def _connect(path: Path) -> Post:
    end = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    try:
        end.connect(str(path))
        if _peer(end)[1] != os.getuid():
            raise PermissionError(f"{path} belongs to another user")
    except OSError:
        end.close()
        raise
    return Post(end)


def _peer(end: socket.socket) -> tuple[int, int]:
    """The process id and user id of the other side."""
    size = struct.calcsize("3i")
    pid, uid, _ = struct.unpack("3i", end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size))
    return pid, uid


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder itself: no lock file is left, none can be swapped."""
    fd = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)
