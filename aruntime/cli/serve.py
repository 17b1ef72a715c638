"""`aruntime serve`: this process becomes the supervisor; it binds the listeners and its front ends inherit them."""

import argparse
import asyncio
import json
import os
import shlex
import socket
import sys
from pathlib import Path

from rich.console import Console

from aruntime.base import log
from aruntime.base.names import is_loopback
from aruntime.cli.options import add_engine, add_repository, add_tenants, answers_path, at_least_one, port, settings
from aruntime.control.certificate import Certificate
from aruntime.control.front_ends import COUNT_MAX
from aruntime.control.journal import JournalRefused
from aruntime.control.launcher import LocalLauncher
from aruntime.control.supervisor import Supervisor
from aruntime.control.tenants import Tenants
from aruntime.control.worker import Command

_BACKLOG = 1024
_UNSENT_BYTES_MAX = 64 << 10
_QUESTION = "What is a canary rollout?"


def add_parser(commands: "argparse._SubParsersAction[argparse.ArgumentParser]") -> None:
    """Declare the command."""
    parser = commands.add_parser("serve", help="serve a model repository", description=__doc__)
    add_repository(parser)
    add_tenants(parser)
    parser.add_argument("--host", default="127.0.0.1", help="the public listener's address [%(default)s]")
    parser.add_argument("--port", type=port, default=8000, metavar="N", help="its port, 0 for any [%(default)s]")
    parser.add_argument(
        "--admin-host", default="127.0.0.1", help="beyond loopback only with an admin key [%(default)s]"
    )
    parser.add_argument("--admin-port", type=port, metavar="N", help="[the public port + 1]")
    parser.add_argument("--workers", type=_workers, default=1, metavar="N", help="front ends [%(default)s]")
    parser.add_argument("--certfile", type=Path, metavar="PEM", help="serve TLS on the public listener")
    parser.add_argument("--keyfile", type=Path, metavar="PEM", help="both are read again when they change")
    parser.add_argument(
        "--keep-answers",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="keep responses and stored chats, whose texts are then on disk beside the journal [yes]",
    )
    parser.add_argument("--json", action="store_true", help="say that it is ready as one line of JSON")
    add_engine(parser)
    parser.set_defaults(run=run)


def _workers(text: str) -> int:
    count = at_least_one(text)
    if count > COUNT_MAX:
        raise argparse.ArgumentTypeError(f"want 1 to {COUNT_MAX}, got {text!r}")
    return count


def run(options: argparse.Namespace) -> int:
    """Serve until told to stop; 0 when asked to, 1 when nothing can be served, 2 when the options are wrong."""
    log.configure(options.log_level)
    try:
        tenants = Tenants(options.tenants)
        _check(options, tenants)
        certificate = Certificate(options.certfile, options.keyfile)
        public = _bind(options.host, options.port)
        own = public.getsockname()[1]
        admin_port = options.admin_port if options.admin_port is not None else own + 1 if options.port else 0
        admin = _bind(options.admin_host, admin_port)
    except (ValueError, OSError) as error:
        print(f"aruntime serve: {error}", file=sys.stderr)
        return 2
    with public, admin:
        try:
            return asyncio.run(_serve(options, tenants, certificate, public, admin))
        except JournalRefused as error:
            print(f"aruntime serve: {error}: name another with --journal", file=sys.stderr)
            return 2


async def _serve(
    options: argparse.Namespace,
    tenants: Tenants,
    certificate: Certificate,
    public: socket.socket,
    admin: socket.socket,
) -> int:
    supervisor = Supervisor(
        settings(options),
        LocalLauncher(),
        tenants,
        certificate,
        on_ready=lambda: _announce(options, public, admin, supervisor),
    )
    return await supervisor.run(options.workers, _front_end(options, public, admin))


def _check(options: argparse.Namespace, tenants: Tenants) -> None:
    if tenants.path is None and not is_loopback(options.host):
        raise ValueError(f"--host {options.host} is not loopback: it needs API keys, see aruntime tenants add")
    if not tenants.listed.admin_keys and not is_loopback(options.admin_host):
        raise ValueError(f"--admin-host {options.admin_host} is not loopback: it needs an admin key")
    if (options.certfile is None) != (options.keyfile is None):
        raise ValueError("--certfile and --keyfile belong together")
    if not options.repository.is_dir():
        raise ValueError(f"there is no model repository at {options.repository}: name one with --repository")


def _bind(host: str, number: int) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listener = socket.create_server((host, number), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise OSError(f"cannot listen on {host}:{number}: {error.strerror}") from None
    # Accepted connections inherit both. What a client does not read waits with us, where it is seen, not in the kernel.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _UNSENT_BYTES_MAX)
    return listener


def _front_end(options: argparse.Namespace, public: socket.socket, admin: socket.socket) -> Command:
    arguments = ["--public-fd", str(public.fileno()), "--admin-fd", str(admin.fileno())]
    if options.keep_answers:
        arguments += ["--answers", str(answers_path(options))]
    arguments += ["--log-level", options.log_level]
    return Command("aruntime.cli.frontend", tuple(arguments), (public.fileno(), admin.fileno()))


def _announce(options: argparse.Namespace, public: socket.socket, admin: socket.socket, supervisor: Supervisor) -> None:
    url = _url("https" if options.certfile is not None else "http", public)
    models = supervisor.ready_models()
    if options.json:
        ready = {"event": "ready", "url": url, "admin_url": _url("http", admin), "models": models, "pid": os.getpid()}
        print(json.dumps(ready), flush=True)
        return
    console = Console(soft_wrap=True, highlight=False)
    served = ", ".join(models) or "models are loaded on demand"
    console.print(f"[bold green]ready[/] on [bold]{url}[/] · admin on {_url('http', admin)} · {served}")
    if models:
        console.print(_curl(options, url, models[0].partition("@")[0]), markup=False)


def _url(scheme: str, listener: socket.socket) -> str:
    host, number = listener.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"{scheme}://[{host}]:{number}" if ":" in host else f"{scheme}://{host}:{number}"


def _curl(options: argparse.Namespace, url: str, model: str) -> str:
    body = {"model": model, "stream": True, "messages": [{"role": "user", "content": _QUESTION}]}
    trust = ["--cacert", str(options.certfile)] if options.certfile is not None else []
    key = ["-H", "authorization: Bearer KEY"] if options.tenants is not None else []
    return shlex.join(
        [
            "curl",
            "-N",
            *trust,
            *key,
            f"{url}/v1/chat/completions",
            "-H",
            "content-type: application/json",
            "-d",
            json.dumps(body),
        ]
    )
