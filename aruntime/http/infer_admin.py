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
from aruntime.control.lives import READY
from aruntime.http.context import Context
from aruntime.http.infer import model_ref
from aruntime.http.infer_models import reply_json
from aruntime.http.requests import read_body
from aruntime.wire.actions import LoadVersion, UnloadVersion
from aruntime.wire.body import Body, NotServed, Strict, parse
from aruntime.wire.control import VersionEntry, VersionState

# The words of NVIDIA's server for a version's life; what is not here is UNAVAILABLE.
_STATES: dict[VersionState, str] = {
    "admitted": "LOADING",
    "loading": "LOADING",
    "warming": "LOADING",
    "probing": "LOADING",
    "standby": "READY",
    "serving": "READY",
    "draining": "UNLOADING",
    "unloading": "UNLOADING",
}


_LOGS = "all of it is always logged, to standard error"
_TRACES = "nothing is traced"


class IndexBody(Strict):
    """POST /v2/repository/index."""

    ready: bool = False


class _LoadParameters(Strict):
    not_served = {"config": NotServed("what a model is loaded with stands in its model.toml")}  # noqa: RUF012


class LoadBody(Strict):
    """POST /v2/repository/models/{model}/load."""

    parameters: _LoadParameters | None = None


class _UnloadParameters(Strict):
    unload_dependents: bool = False  # there are no ensembles: no model depends on another


class UnloadBody(Strict):
    """POST /v2/repository/models/{model}/unload."""

    parameters: _UnloadParameters | None = None


class LogSettings(Strict):
    """POST /v2/logging: what can be changed, and the values of what cannot."""

    not_served = {  # noqa: RUF012
        "log_error": NotServed(_LOGS, True),
        "log_file": NotServed(_LOGS, ""),
        "log_format": NotServed(_LOGS, "default"),
        "log_info": NotServed(_LOGS, True),
        "log_warning": NotServed(_LOGS, True),
    }

    log_verbose_level: Annotated[int, Field(ge=0, lt=1 << 32)] | None = None


class TraceSettings(Strict):
    """POST /v2/trace/setting."""

    not_served = {  # noqa: RUF012
        "log_frequency": NotServed(_TRACES),
        "trace_count": NotServed(_TRACES),
        "trace_file": NotServed(_TRACES),
        "trace_level": NotServed(_TRACES, ["OFF"]),
        "trace_mode": NotServed(_TRACES),
        "trace_rate": NotServed(_TRACES),
    }


async def repository_index(request: Request) -> Response:
    """Every model version of the repository, with its state; only the ready ones when the body says so."""
    body = await _read(request, IndexBody)
    entries = [(model.model, entry) for model in Context.of(request).view.states() for entry in model.versions]
    return reply_json([_indexed(*one) for one in entries if not body.ready or one[1].state in READY])


async def load_model(request: Request) -> Response:
    """Load the stable version; answered when it is ready, or with why it is not. Nothing of a load can be changed."""
    await _read(request, LoadBody)
    await Context.of(request).act(LoadVersion(model=model_ref(request).name), request)
    return reply_json({})


async def unload_model(request: Request) -> Response:
    """Drain and unload every version; answered when they are gone from memory."""
    await _read(request, UnloadBody)
    await Context.of(request).act(UnloadVersion(model=model_ref(request).name), request)
    return reply_json({})


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


def _indexed(model: str, entry: VersionEntry) -> dict[str, str]:
    reason = "" if entry.state in READY else entry.reason or entry.state
    return {
        "name": model,
        "version": str(entry.version),
        "state": _STATES.get(entry.state, "UNAVAILABLE"),
        "reason": reason,
    }


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
