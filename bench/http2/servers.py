"""The servers that are compared, each a process of its own on one core, once in clear text and once over TLS.

The peers are installed at their first use into a virtual environment of their own (bench/harnesses/installed.py).
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import processes

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "harnesses"))
from installed import Packages, environment  # noqa: E402

PEERS = Packages("http2", ("uvicorn==0.54.*", "zttp==0.0.35", "granian==2.8.*", "starlette>=1,<2", "uvloop>=0.21,<1"))
ARUNTIME, STOCK, UVICORN, GRANIAN = "aruntime's Hypercorn", "Hypercorn", "uvicorn", "Granian"
NAMES = (ARUNTIME, STOCK, UVICORN, GRANIAN)
_START_S = 30.0


@dataclass(frozen=True, slots=True)
class Certificate:
    """Of localhost, signed by itself."""

    certfile: Path
    keyfile: Path

    @classmethod
    def made_in(cls, folder: Path) -> "Certificate":
        made = cls(folder / "cert.pem", folder / "key.pem")
        command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2"
        command += " -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
        files = ["-keyout", str(made.keyfile), "-out", str(made.certfile)]
        subprocess.run([*command.split(), *files], check=True, capture_output=True)
        return made


@dataclass(frozen=True, slots=True)
class Server:
    """One that runs."""

    name: str
    pid: int
    port: int

    def cpu_s(self) -> float:
        """What it has used so far, all its processes together."""
        return processes.cpu_s(processes.family(self.pid))


def peers() -> Path | None:
    """The folder of the peers' programs; None when they cannot be installed."""
    try:
        return environment(PEERS)
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"uvicorn and Granian are missing: {error}", file=sys.stderr)
        return None


@contextlib.contextmanager
def serving(name: str, programs: Path | None, certificate: Certificate | None, core: int) -> Iterator[Server]:
    """Start one of NAMES on a core, and end it."""
    port = free_port()
    command = _command(name, programs, certificate, port)
    with subprocess.Popen(command, cwd=HERE, preexec_fn=lambda: os.sched_setaffinity(0, {core})) as process:
        try:
            until_it_listens(port, process)
            yield Server(name, process.pid, port)
        finally:
            process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(10)
            process.kill()


def free_port() -> int:
    """A port that nobody listens on at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def until_it_listens(port: int, process: "subprocess.Popen[bytes]") -> None:
    """Wait until connections are accepted. RuntimeError: it ends, or takes too long."""
    until_s = time.monotonic() + _START_S
    while time.monotonic() < until_s and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
            return
        time.sleep(0.05)
    raise RuntimeError(f"{process.args} does not listen")


def _command(name: str, programs: Path | None, certificate: Certificate | None, port: int) -> Sequence[str]:
    files = [] if certificate is None else [str(certificate.certfile), str(certificate.keyfile)]
    if name in (ARUNTIME, STOCK):
        command = [sys.executable, "front.py", str(port), *(["--stock"] if name == STOCK else [])]
        options = ["--certfile", "--keyfile"]
    elif name == UVICORN:
        command = [f"{programs}/uvicorn", "app:app", "--http", "zttp", "--http2", "--loop", "uvloop", "--lifespan"]
        command += ["off", "--no-access-log", "--log-level", "warning", "--port", str(port)]
        options = ["--ssl-certfile", "--ssl-keyfile"]
    else:
        command = [f"{programs}/granian", "app:app", "--interface", "asgi", "--loop", "uvloop", "--no-ws"]
        command += ["--log-level", "warning", "--workers", "1", "--port", str(port)]
        options = ["--ssl-certificate", "--ssl-keyfile"]
    return [*command, *(word for pair in zip(options, files, strict=False) for word in pair)]
