"""The supervisor of front ends that plain hypercorn has started: `python -m aruntime.cli.supervisor --listen-fd N …`.

It serves whoever connects and ends when the last front end has gone; see `aruntime.control.meeting`.
"""

import argparse
import asyncio
import contextlib
import os
import signal
import socket
import sys
from pathlib import Path

from aruntime.base import log
from aruntime.cli.options import add_engine, add_repository, add_tenants, settings
from aruntime.control import meeting
from aruntime.control.host import Settings
from aruntime.control.journal import JournalRefused
from aruntime.control.launcher import LocalLauncher
from aruntime.control.supervisor import Supervisor
from aruntime.control.tenants import Tenants, TenantsRefused

# Whoever started this connects at once; if nobody has after so long, they are dead.
_FIRST_S = 30.0


async def serve(listener: socket.socket, path: Path, wanted: Settings, tenants: Tenants) -> int:
    """Run until nobody is left."""
    loop = asyncio.get_running_loop()

    def on_empty() -> None:
        if not supervisor.guests and listener.fileno() >= 0 and meeting.retire(listener, path):
            loop.remove_reader(fd)
            supervisor.stop()

    def on_connection() -> None:
        if (visitor := meeting.accept(listener)) is not None:
            post, pid = visitor
            supervisor.admit(post, lambda: _kill(pid))

    supervisor = Supervisor(wanted, LocalLauncher(), tenants, on_empty=on_empty)
    fd = listener.fileno()
    loop.add_reader(fd, on_connection)
    loop.call_later(_FIRST_S, on_empty)
    return await supervisor.run()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def main() -> int:
    """Run the supervisor on an inherited listening socket; 2 when the tenants' file cannot be used."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen-fd", type=int, required=True)
    parser.add_argument("--listen-path", type=Path, required=True)
    add_repository(parser)
    add_tenants(parser)
    add_engine(parser)
    options = parser.parse_args()
    log.configure(options.log_level)
    try:
        tenants = Tenants(options.tenants)
    except TenantsRefused as error:
        log.error("tenants.refused", reason=str(error))
        return 2
    listener = socket.socket(fileno=options.listen_fd)
    listener.setblocking(False)
    listener.set_inheritable(False)
    try:
        return asyncio.run(serve(listener, options.listen_path, settings(options), tenants))
    except JournalRefused as error:
        log.error("journal.refused", reason=str(error))
        return 2


if __name__ == "__main__":
    sys.exit(main())
