"""What every handler reads of its application."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from aruntime.base.errors import PermissionDenied
from aruntime.control.commands import Commands
from aruntime.control.view import View
from aruntime.http.encoder import Encoder
from aruntime.http.keeper import Keeper
from aruntime.http.limits import HttpLimits
from aruntime.http.mirror import Mirror
from aruntime.wire.actions import Action


@dataclass(frozen=True, slots=True)
class Context:
    """One application's surroundings; `clock` is the monotonic one. Only the admin one has `commands`.

    Without a `keeper` no answers are kept.
    """

    view: View
    limits: HttpLimits
    clock: Callable[[], float]
    encoder: Encoder
    mirror: Mirror
    commands: Commands | None = None
    keeper: Keeper | None = None

    @classmethod
    def of(cls, request: Request) -> "Context":
        """The context that a request's application was built with."""
        context: Context = request.app.state.context
        return context

    async def act(self, action: Action, request: Request) -> dict[str, Any]:
        """Have the supervisor do what an operator wants; what came of it."""
        if self.commands is None:
            raise PermissionDenied("operators use the admin listener")
        actor = "admin" if self.view.registry.asks(admin=True) else "local"
        return await self.commands.act(action, actor=actor, request_id=request.scope["state"]["request_id"])
