"""The commands' way to a running server: its admin listener, over HTTP.

ARUNTIME_ADMIN_KEY is the key, where the server asks for one. There is no option for it: everybody on a machine can read
the command lines of its processes.
"""

import argparse
import asyncio
import os
import ssl
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Self

import httpx

from aruntime.base.errors import ModelNotFound
from aruntime.base.names import ModelRef, is_name
from aruntime.cli.output import refusing

DEFAULT_URL = "http://127.0.0.1:8001"
_READ_S, _CONNECT_S = 10.0, 5.0
_INTERRUPTED = 130
_NO_SUCH_PATH = "no such path"

Answer = dict[str, Any]


class Refused(ValueError):
    """The server has not done it; the message is for an operator.

    `status` is HTTP's; 0 when nobody listens there, 504 when somebody does and has not answered.
    """

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status

    @property
    def away(self) -> bool:
        """Whether it may answer otherwise soon: it is not there, or not ready."""
        return self.status in (0, 503, 504)


class AdminClient:
    """One server's admin listener, as a context. `url` is where it listens. ValueError: there can be no such key."""

    def __init__(self, url: str) -> None:
        self.url = url
        key = _key()
        self._http = httpx.AsyncClient(
            base_url=url,
            headers={"authorization": f"Bearer {key}"} if key else {},
            timeout=httpx.Timeout(_READ_S, connect=_CONNECT_S),
            trust_env=False,  # a proxy would see the key, and a .netrc replace it
            verify=ssl.create_default_context(),
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()

    async def show(self, model: str | None = None) -> Answer:
        """Every model of the server, or one."""
        return await self._ask("GET", "/admin/models" + (f"/{model}" if model else ""))

    async def model(self, name: str) -> Answer:
        """What the server says of one model."""
        facts: Answer = (await self.show(name))["models"][0]
        return facts

    async def change(self, what: str, model: str, version: int | None = None) -> Answer:
        """load, unload or release; it takes as long as it takes."""
        fields = {} if version is None else {"version": version}
        return await self._ask("POST", f"/admin/models/{model}/{what}", fields, timeout=None)

    async def set_label(self, model: str, label: str, version: int) -> Answer:
        """Move a label."""
        return await self._ask("PUT", f"/admin/models/{model}/labels/{label}", {"version": version})

    async def drop_label(self, model: str, label: str) -> Answer:
        """Forget a label."""
        return await self._ask("DELETE", f"/admin/models/{model}/labels/{label}")

    async def begin_rollout(self, model: str, version: int) -> Answer:
        """Begin to replace the stable version."""
        return await self._ask("POST", f"/admin/models/{model}/rollout", {"version": version})

    async def steer_rollout(self, model: str, to: str) -> Answer:
        """pause, resume, promote or roll-back."""
        return await self._ask("POST", f"/admin/models/{model}/rollout/{to}")

    async def front_ends(self) -> Answer:
        """Their processes, and how far the last restart is."""
        return await self._ask("GET", "/admin/front-ends")

    async def restart_front_ends(self) -> Answer:
        """Begin to replace them; how that stands."""
        return await self._ask("POST", "/admin/front-ends/restart")

    async def audit(self, limit: int, before: int | None = None) -> list[Answer]:
        """The audit trail, the newest first."""
        query = f"?limit={limit}" + (f"&before={before}" if before is not None else "")
        entries: list[Answer] = (await self._ask("GET", f"/admin/audit{query}"))["audit"]
        return entries

    async def _ask(self, method: str, path: str, fields: Answer | None = None, **more: Any) -> Answer:
        try:
            reply = await self._http.request(method, path, json=fields, **more)
        except httpx.ConnectError as error:
            raise Refused(f"no server answers at {self.url}: {error}") from None
        except httpx.TimeoutException:
            raise Refused(f"the server at {self.url} does not answer", 504) from None
        except httpx.HTTPError as error:
            raise Refused(f"the server at {self.url} does not answer: {error}", 504) from None
        try:
            answer = reply.json()
            words = "" if reply.is_success else _words(answer["error"])
        except (ValueError, KeyError, TypeError):
            words = _NO_SUCH_PATH
        if words == _NO_SUCH_PATH or not isinstance(answer, dict):
            raise Refused(f"what answers at {self.url} is no admin listener of aruntime", 404)
        if words:
            raise Refused(words, reply.status_code)
        return answer


def add_admin(parser: argparse.ArgumentParser) -> None:
    """--admin."""
    parser.add_argument(
        "--admin",
        type=_url,
        default=os.environ.get("ARUNTIME_ADMIN") or DEFAULT_URL,
        metavar="URL",
        help="the admin listener of the server; its key is ARUNTIME_ADMIN_KEY [ARUNTIME_ADMIN; %(default)s]",
    )


def asking(
    command: str, run: Callable[[argparse.Namespace, AdminClient], Awaitable[int]]
) -> Callable[[argparse.Namespace], int]:
    """`run` with a client of the server that the options name; what the server refuses is one line and status 1."""

    async def connected(options: argparse.Namespace) -> int:
        async with AdminClient(options.admin) as admin:
            return await run(options, admin)

    def told(options: argparse.Namespace) -> int:
        try:
            return asyncio.run(connected(options))
        except KeyboardInterrupt:
            return _INTERRUPTED

    return refusing(command, told)


def named(text: str) -> str:
    """A model's name."""
    name, version = versioned(text)
    if version is not None:
        raise argparse.ArgumentTypeError(f"want a model's name, got {text!r}")
    return name


def versioned(text: str) -> tuple[str, int | None]:
    """`name` or `name@version`."""
    try:
        ref = ModelRef.parse(text)
    except ModelNotFound:
        ref = None
    if ref is None or ref.label is not None or ref.adapter is not None:
        raise argparse.ArgumentTypeError(f"want NAME or NAME@VERSION, got {text!r}")
    return ref.name, ref.version


def one_version(text: str) -> tuple[str, int]:
    """`name@version`."""
    name, version = versioned(text)
    if version is None:
        raise argparse.ArgumentTypeError(f"want NAME@VERSION, got {text!r}")
    return name, version


def labelled(text: str) -> str:
    """A label's name: it becomes a part of a path."""
    if not is_name(text):
        raise argparse.ArgumentTypeError(f"want a label such as beta, got {text!r}")
    return text


def _key() -> str:
    """The key, empty without one. ValueError: no header can hold it; what it is stands in no message."""
    key = os.environ.get("ARUNTIME_ADMIN_KEY", "").strip()
    if not (key.isascii() and key.isprintable()):
        raise ValueError("what ARUNTIME_ADMIN_KEY holds is no key")
    return key


def _url(text: str) -> str:
    try:
        url = httpx.URL(text)
    except httpx.InvalidURL:
        url = httpx.URL("")
    if url.scheme not in ("http", "https") or not url.host or url.userinfo:
        raise argparse.ArgumentTypeError(f"want a URL such as {DEFAULT_URL}, got {text!r}")
    return text.rstrip("/")


def _words(error: Any) -> str:
    """What an error says, for an operator. KeyError, TypeError: it is none of ours."""
    message: str = error["message"]
    if error["code"] == "invalid_api_key":
        return f"{message}; the commands take it from ARUNTIME_ADMIN_KEY"
    return message
