"""What an operator may ask of the server, as front ends hand it to the supervisor (`Act` in aruntime.wire.control).

JSON, `kind` first; unknown keys are refused. The answer is JSON too, an object whose shape its action's docstring says.
"""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from aruntime.base.errors import InvalidRequest

Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")]
Number = Annotated[int, Field(ge=1, le=999_999_999)]
Steering = Literal["pause", "resume", "promote", "roll-back"]


class _Action(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Show(_Action):
    """Every model, or one, and its newest versions.

    `{"models": [{name, labels, rollout, last_rollout, versions: [{version, state, …}]}], "memory": {…}, "repository"}`;
    `repository` is the same for whoever looks at the same folder of the same machine.
    """

    kind: Literal["show"] = "show"
    model: Name | None = None


class LoadVersion(_Action):
    """Load a version, the stable one if none is named; answered when it is ready, or with the reason why it is not."""

    kind: Literal["load"] = "load"
    model: Name
    version: Number | None = None


class UnloadVersion(_Action):
    """Drain and unload a version, or all of a model; answered when they are gone from memory."""

    kind: Literal["unload"] = "unload"
    model: Name
    version: Number | None = None


class ReleaseVersion(_Action):
    """Let a version out of quarantine: it may be loaded again, and is checked again."""

    kind: Literal["release"] = "release"
    model: Name
    version: Number


class SetLabel(_Action):
    """Name a ready version by a label; "stable" is what a request without a version means."""

    kind: Literal["set-label"] = "set-label"
    model: Name
    label: Name
    version: Number


class DropLabel(_Action):
    """Forget a label."""

    kind: Literal["drop-label"] = "drop-label"
    model: Name
    label: Name


class BeginRollout(_Action):
    """Begin to replace the stable version by another, as the model's rollout policy says."""

    kind: Literal["begin-rollout"] = "begin-rollout"
    model: Name
    version: Number


class SteerRollout(_Action):
    """Pause, resume, promote or roll back the rollout under way."""

    kind: Literal["steer-rollout"] = "steer-rollout"
    model: Name
    to: Steering


class ReadAudit(_Action):
    """Who did what, the newest first: `{"audit": [{id, at_s, actor, action, subject, outcome, detail}]}`."""

    kind: Literal["audit"] = "audit"
    limit: Annotated[int, Field(ge=1, le=1000)] = 100
    before: Annotated[int, Field(ge=1)] | None = None


class ShowFrontEnds(_Action):
    """`{"front_ends": [{pid, state}], "restart": {count, replaced, state, reason}}`: of the last restart, if any."""

    kind: Literal["front-ends"] = "front-ends"


class RestartFrontEnds(_Action):
    """Begin to replace the front ends one by one; answered at once, as `ShowFrontEnds` is."""

    kind: Literal["restart-front-ends"] = "restart-front-ends"


Action = (
    Show | LoadVersion | UnloadVersion | ReleaseVersion | SetLabel | DropLabel | BeginRollout | SteerRollout | ReadAudit
    | ShowFrontEnds | RestartFrontEnds
)  # fmt: skip

_ANY: TypeAdapter[Action] = TypeAdapter(Annotated[Action, Field(discriminator="kind")])


def encode_action(action: Action) -> bytes:
    """What the memory file of `Act` holds."""
    return action.model_dump_json().encode()


def decode_action(data: bytes) -> Action:
    """Read it. InvalidRequest names the first wrong field."""
    try:
        return _ANY.validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(map(str, first["loc"][1:])) or None
        raise InvalidRequest(f"{field or 'body'}: {first['msg']}", param=field) from None
