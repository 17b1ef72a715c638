"""Where requests wait until their model is loaded: bounded, each up to its own deadline, one load for all of them."""

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import TypeVar

from aruntime.admission.tenants import Tenant
from aruntime.base.errors import DeadlineExceeded, Overloaded

# Requests of one front end; of one tenant, while there are others, half of them.
HELD_MAX = 256
_RETRY_AFTER_S = 2.0

Found = TypeVar("Found")


class Holding:
    """The requests of one front end that wait for models. `clock` is the monotonic one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._held: dict[str, list[tuple[Tenant, asyncio.Event]]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._held.values()))

    async def until(
        self, model: str, tenant: Tenant, deadline_s: float, look: Callable[[], Found | None], *, shared: bool
    ) -> Found:
        """What `look` finds, which is asked again whenever `model` has changed; its errors end the wait.

        Overloaded: too many wait; DeadlineExceeded. `shared`: more tenants than one are known.
        """
        with self._place(model, tenant, shared) as changed:
            try:
                async with asyncio.timeout(None if deadline_s == float("inf") else deadline_s - self._clock()):
                    while True:
                        await changed.wait()
                        changed.clear()
                        if (found := look()) is not None:
                            return found
            except TimeoutError:
                raise DeadlineExceeded("the deadline passed while the model was loaded") from None

    def wake(self, model: str) -> None:
        """A model has changed."""
        for _, changed in self._held.get(model, ()):
            changed.set()

    @contextlib.contextmanager
    def _place(self, model: str, tenant: Tenant, shared: bool) -> Iterator[asyncio.Event]:
        own = sum(who.index == tenant.index for held in self._held.values() for who, _ in held)
        if len(self) >= HELD_MAX or (shared and own >= HELD_MAX // 2):
            raise Overloaded("too many requests wait for models to be loaded", retry_after_s=_RETRY_AFTER_S)
        place = (tenant, asyncio.Event())
        held = self._held.setdefault(model, [])
        held.append(place)
        try:
            yield place[1]
        finally:
            held.remove(place)
            if not held:
                del self._held[model]
