"""How a front end sees the models and their engines: what is ready, and if not, why."""

from collections.abc import Sequence
from dataclasses import dataclass

from aruntime.wire.control import ModelState

STABLE = "stable"
# An engine's loop turns at least every quarter of a second at rest, and after every step.
PROGRESS_S_MAX = 5.0


@dataclass(frozen=True, slots=True)
class EngineHealth:
    """Whether one engine makes progress: `idle_s` since its loop last turned, `reason` when it is not ok."""

    model: str
    version: int
    replica: int
    ok: bool
    steps: int
    idle_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class Health:
    """`ready`: every model is served that must be, and no engine stands still; `reasons` says what is missing."""

    live: bool
    ready: bool
    reasons: list[str]
    engines: list[EngineHealth]
    dependencies: dict[str, str]


def missing(model: ModelState, engines: Sequence[EngineHealth]) -> str:
    """Why a model that must be ready is not; empty when it is, or need not be."""
    stable = model.labels.get(STABLE)
    mine = [engine for engine in engines if engine.model == model.model and engine.version == stable]
    if not model.required or any(engine.ok for engine in mine):
        return ""
    entry = next((entry for entry in model.versions if entry.version == stable), model.versions[-1])
    reason = mine[0].reason if mine else entry.reason or f"it is {entry.state}"
    return f"{model.model}@{entry.version}: {reason}"
