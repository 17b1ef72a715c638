"""What every handler reads of its application."""

from collections.abc import Callable
from dataclasses import dataclass

from starlette.requests import Request

from aruntime.control.view import View
from aruntime.http.encoder import Encoder
from aruntime.http.limits import HttpLimits


@dataclass(frozen=True, slots=True)
class Context:
    """One application's surroundings; `clock` is the monotonic one."""

    view: View
    limits: HttpLimits
    clock: Callable[[], float]
    encoder: Encoder

    @classmethod
    def of(cls, request: Request) -> "Context":
        """The context that a request's application was built with."""
        context: Context = request.app.state.context
        return context
