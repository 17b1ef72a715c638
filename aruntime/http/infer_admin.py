"""What /v2 has for operators, on the admin listener: the repository, logging, tracing, shared memory.

Tracing and memory shared with clients are not there: what asks for their state is told so, what would begin them is
refused.
"""

from typing import Annotated

from pydantic import Field
from starlette.requests import Request
from starlette.responses import Response

from aruntime.base import log
from aruntime.base.errors import InvalidRequest, NotFound
from aruntime.http.context import Context
from aruntime.http.infer_models import reply_json
from aruntime.http.requests import read_body
from aruntime.wire.body import Body, Strict, parse


class IndexBody(Strict):
    """POST /v2/repository/index."""

    ready: bool = False


class LogSettings(Strict):
    """POST /v2/logging: what can be changed, and the values of what cannot."""

    not_served = {  # noqa: RUF012
        "log_error": (True,),
        "log_file": ("",),
        "log_format": ("default",),
        "log_info": (True,),
        "log_warning": (True,),
    }

    log_verbose_level: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None


class TraceSettings(Strict):
    """POST /v2/trace/setting."""

    not_served = {  # noqa: RUF012
        "log_frequency": (),
        "trace_count": (),
        "trace_file": (),
        "trace_level": (["OFF"],),
        "trace_mode": (),
        "trace_rate": (),
    }


async def repository_index(request: Request) -> Response:
    """Every model version of the repository, with its state; only the ready ones when the body says so."""
    body = await _read(request, IndexBody)
    view = Context.of(request).view
    reasons = {(engine.model, engine.version): engine.reason for engine in view.health().engines}
    entries = [entry for entry in view.models() if entry.ready or not body.ready]
    return reply_json(
        [
            {
                "name": entry.name,
                "version": str(entry.version),
                "state": "READY" if entry.ready else "UNAVAILABLE",
                "reason": "" if entry.ready else reasons.get((entry.name, entry.version), ""),
            }
            for entry in entries
        ]
    )


async def show_logging(request: Request) -> Response:
    """What the front end that answers writes to its log."""
    return reply_json(_log_settings())


async def set_logging(request: Request) -> Response:
    """Change what the front end that answers writes: from `log_verbose_level` 1 on its details too."""
    body = await _read(request, LogSettings)
    if body.log_verbose_level is not None:
        log.set_level("debug" if body.log_verbose_level else "info")
    return reply_json(_log_settings())


async def show_tracing(request: Request) -> Response:
    """Tracing is off."""
    return reply_json({"trace_level": ["OFF"]})


async def set_tracing(request: Request) -> Response:
    """400 for whatever would begin a trace."""
    await _read(request, TraceSettings)
    return await show_tracing(request)


async def list_shared_memory(request: Request) -> Response:
    """There are no regions."""
    return reply_json([])


async def show_shared_memory(request: Request) -> Response:
    """404: there are no regions."""
    raise NotFound("no memory is shared with clients: there is no such region")


async def register_shared_memory(request: Request) -> Response:
    """400: it is not served."""
    raise InvalidRequest("shared memory: not supported by this server: send data in the body")


async def unregister_shared_memory(request: Request) -> Response:
    """200: nothing is registered."""
    return reply_json({})


async def _read(request: Request, model: type[Body]) -> Body:
    """The body as `model`; no body is an empty object, as NVIDIA's client sends it."""
    return parse(await read_body(request, Context.of(request).limits) or b"{}", model)


def _log_settings() -> dict[str, object]:
    return {
        "log_file": "",
        "log_info": log.level() in ("debug", "info"),
        "log_warning": True,
        "log_error": True,
        "log_verbose_level": int(log.level() == "debug"),
        "log_format": "default",
    }
