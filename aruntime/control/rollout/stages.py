"""The stages of a rollout: one table, and what of a rollout is kept. docs/rollout.md is drawn from the table."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from aruntime.control.rollout.gates import Observation
from aruntime.control.settings import RolloutPolicy
from aruntime.wire.control import Count, Reason, Size

Stage = Literal["preparing", "shadow", "canary", "bake", "complete", "rolled_back", "aborted"]
STAGES: tuple[Stage, ...] = get_args(Stage)

# stage -> event -> the stage after it.
TRANSITIONS: Mapping[Stage, Mapping[str, Stage]] = MappingProxyType(
    {
        "preparing": {"mirror": "shadow", "split": "canary", "switch": "bake", "abort": "aborted"},
        "shadow": {"split": "canary", "back": "rolled_back"},
        "canary": {"widen": "canary", "settle": "bake", "back": "rolled_back"},
        "bake": {"finish": "complete", "back": "rolled_back"},
        "complete": {},
        "rolled_back": {},
        "aborted": {},
    }
)
ENDS: frozenset[Stage] = frozenset(stage for stage in STAGES if not TRANSITIONS[stage])


class Record(BaseModel):
    """All of a rollout that outlives the server: what the journal keeps. `reason` says how it came to where it is."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    stable: Size
    candidate: Size
    salt: Count
    policy: RolloutPolicy = RolloutPolicy()
    stage: Stage = "preparing"
    step: Annotated[int, Field(ge=0, lt=16)] = 0
    """Of the canary: the index of its share."""
    ready: bool = False
    """The candidate has been ready."""
    golden: bool = False
    """It has golden questions to ask."""
    paused: bool = False
    deaths: Count = 0
    """Of the candidate's engines."""
    reference: Observation | None = None
    """The stable version's last window that had enough requests."""
    reason: Reason = ""

    @property
    def over(self) -> bool:
        """Whether it has come to an end."""
        return self.stage in ENDS
