"""What the supervisor, the engines and the front ends say to each other over their control sockets.

    supervisor -> engine      Load [table, engine bell] · AttachFrontEnd [channel, front end's bell] · DetachFrontEnd
                              Drain · Stop
    engine -> supervisor      Loaded · Ready · Failed · Drained
    front end -> supervisor   Hello [front end's bell] · Attached · Refused · Drained
    supervisor -> front end   Welcome [ledger] · ReplicaState · AttachReplica [channel, engine bell, table]
                              DetachReplica · Drain

In brackets: the descriptors that travel with the message, in this order. JSON, `kind` first; unknown keys are refused.
"""

from typing import Annotated, ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from aruntime.queue.columns import FRONT_ENDS_MAX

Count = Annotated[int, Field(ge=0, lt=2**63)]
Size = Annotated[int, Field(ge=1, lt=2**63)]
FrontEndId = Annotated[int, Field(ge=1, le=FRONT_ENDS_MAX)]
Name = Annotated[str, Field(min_length=1, max_length=64)]
Folder = Annotated[str, Field(min_length=1, max_length=4096)]
Reason = Annotated[str, Field(max_length=2000)]
Precision = Literal["checkpoint", "float32", "bfloat16", "float16"]
Life = Literal["starting", "warming", "ready", "down", "failed", "stopped"]


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
    descriptors: ClassVar[int] = 0


class Load(_Message):
    """Load a model version and serve it. `dtype` "checkpoint" keeps the dtype that the weights are stored in."""

    kind: Literal["load"] = "load"
    descriptors: ClassVar[int] = 2
    replica: Count
    model: Name
    version: Size
    folder: Folder
    device: Name
    dtype: Precision
    cache_dtype: Precision
    cache_bytes: Size
    block_tokens: Size
    sequences_max: Size
    step_tokens_max: Size
    waiting_max: Size
    waiting_tokens_max: Size
    ttft_s: FiniteFloat
    itl_s: FiniteFloat
    threads: Size


class AttachFrontEnd(_Message):
    kind: Literal["attach_front_end"] = "attach_front_end"
    descriptors: ClassVar[int] = 2
    front_end: FrontEndId
    epoch: Size


class DetachFrontEnd(_Message):
    """The front end is gone: its sequences vanish, nobody reads its outputs."""

    kind: Literal["detach_front_end"] = "detach_front_end"
    front_end: FrontEndId


class Drain(_Message):
    """Take no new work and finish what runs; at `deadline_s` of the monotonic clock give up the rest."""

    kind: Literal["drain"] = "drain"
    deadline_s: FiniteFloat


class Stop(_Message):
    """Leave now."""

    kind: Literal["stop"] = "stop"


class Loaded(_Message):
    kind: Literal["loaded"] = "loaded"
    context_max: Size
    vocab: Size
    blocks: Size
    weight_bytes: Size
    seconds: FiniteFloat


class Ready(_Message):
    """Warm: the engine answers from now on."""

    kind: Literal["ready"] = "ready"


class Failed(_Message):
    """This model version cannot be served; trying again would end the same way."""

    kind: Literal["failed"] = "failed"
    reason: Reason


class Drained(_Message):
    """Nothing is left to do here; the sender is about to leave."""

    kind: Literal["drained"] = "drained"


class Hello(_Message):
    kind: Literal["hello"] = "hello"
    descriptors: ClassVar[int] = 1
    pid: Size


class Welcome(_Message):
    """`front_end` is this front end's row in every table, `repository` the folder that is served."""

    kind: Literal["welcome"] = "welcome"
    descriptors: ClassVar[int] = 1
    front_end: FrontEndId
    repository: Folder


class ReplicaState(_Message):
    """How a replica is, in place of what was said of it before; `reason` says why it is not ready.

    `created_s` is when its model version was published, seconds since 1970.
    """

    kind: Literal["replica_state"] = "replica_state"
    replica: Count
    model: Name
    version: Size
    created_s: Count
    life: Life
    reason: Reason


class AttachReplica(_Message):
    kind: Literal["attach_replica"] = "attach_replica"
    descriptors: ClassVar[int] = 3
    replica: Count
    epoch: Size
    model: Name
    version: Size
    created_s: Count
    folder: Folder
    context_max: Size
    vocab: Size
    blocks: Size
    block_tokens: Size
    sequences_max: Size
    waiting_max: Size
    waiting_tokens_max: Size
    ttft_s: FiniteFloat


class Attached(_Message):
    """The front end sends requests to this replica from now on."""

    kind: Literal["attached"] = "attached"
    replica: Count
    epoch: Size


class Refused(_Message):
    """The front end cannot serve this replica's model version: its tokenizer or template is wrong."""

    kind: Literal["refused"] = "refused"
    replica: Count
    epoch: Size
    reason: Reason


class DetachReplica(_Message):
    kind: Literal["detach_replica"] = "detach_replica"
    replica: Count


Message = (
    Load | AttachFrontEnd | DetachFrontEnd | Drain | Stop | Loaded | Ready | Failed | Drained | Hello | Welcome
    | ReplicaState | AttachReplica | Attached | Refused | DetachReplica
)  # fmt: skip

_ANY: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])


def encode(message: Message) -> bytes:
    """The message's bytes."""
    return message.model_dump_json().encode()


def decode(data: bytes, descriptors: int) -> Message:
    """Read a message that came with so many descriptors. ValueError says what is wrong with it."""
    try:
        message = _ANY.validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise ValueError(f"control message: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    if descriptors != message.descriptors:
        raise ValueError(f"{message.kind} carries {message.descriptors} descriptors, got {descriptors}")
    return message
