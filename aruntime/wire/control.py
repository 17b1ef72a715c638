"""What the supervisor, the engines and the front ends say to each other over their control sockets.

    supervisor -> engine      Load [table, engine bell] · AttachFrontEnd [channel, front end's bell] · DetachFrontEnd
                              SetTerms · SetBounds · Stop
    engine -> supervisor      Loaded · Ready · Failed
    front end -> supervisor   Hello [front end's bell] · Listening · Attached · Refused · Drained
    supervisor -> front end   Welcome [ledger] · ModelState · ReplicaState · AttachReplica [channel, engine bell, table]
                              RetireReplica · DetachReplica · SetTenants [memory file with a TenantList] · Drain
                              Introduced · SetCertificate [memory file with PEM]
                              Dependencies · Outcome [memory file with JSON]
    front end -> supervisor   Wanted · Retired · Act [memory file with an Action]
    supervisor -> prober      Probe [channel, engine bell, table, prober's bell]
    prober -> supervisor      Prepared · Probed

In brackets: the descriptors that travel with the message, in this order. JSON, `kind` first; unknown keys are refused.
"""

from typing import Annotated, ClassVar, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, TypeAdapter, ValidationError

from aruntime.queue.columns import PROBER_ROW, TENANTS_MAX
from aruntime.wire.compatibility import Compatibility

Count = Annotated[int, Field(ge=0, lt=2**63)]
Size = Annotated[int, Field(ge=1, lt=2**63)]
FrontEndId = Annotated[int, Field(ge=1, le=PROBER_ROW)]
TenantId = Annotated[int, Field(ge=1, lt=TENANTS_MAX)]
Name = Annotated[str, Field(min_length=1, max_length=64)]
Folder = Annotated[str, Field(min_length=1, max_length=4096)]
Reason = Annotated[str, Field(max_length=2000)]
Dtype = Literal["float32", "bfloat16", "float16"]
Precision = Literal["checkpoint", "float32", "bfloat16", "float16"]
EngineKind = Literal["decoder", "onnx"]
Life = Literal["starting", "warming", "probing", "ready", "down", "failed", "stopped"]
VersionState = Literal[
    "discovered", "verified", "admitted", "loading", "warming", "probing", "standby", "serving", "draining",
    "unloading", "unloaded", "failed", "quarantined",
]  # fmt: skip
Share = Annotated[float, Field(ge=0, le=1)]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]  # sha256 of a key
Keys = Annotated[list[Digest], Field(max_length=8)]

# Of one model, known to front ends: the newest, and all that are loaded.
VERSIONS_MAX = 64

Read = TypeVar("Read")


class _Value(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class _Message(_Value):
    descriptors: ClassVar[int] = 0


class TenantTerms(_Value):
    """What an engine knows of a tenant; the words are those of `aruntime.admission.tenants`."""

    index: TenantId
    weight: Annotated[FiniteFloat, Field(gt=0)] = 1.0
    cache_max: Share = 1.0
    cache_reserved: Share = 0.0
    tokens_per_s_reserved: Annotated[FiniteFloat, Field(ge=0)] = 0.0
    prefix_group: Count


class TenantEntry(TenantTerms):
    """What a front end knows of it: its name, its budgets, and the digests of its keys."""

    name: Name
    requests_per_minute: Size | None = None
    tokens_per_minute: Size | None = None
    sequences_max: Size | None = None
    keys: Keys = []


class TenantList(_Value):
    """Everybody who may ask. No list at all: nobody is asked for a key."""

    tenants: Annotated[list[TenantEntry], Field(max_length=TENANTS_MAX - 1)] | None = None
    admin_keys: Keys = []


class Bounds(_Value):
    """What of a model's limits and objectives may change while it is served; the words are those of `model.toml`.

    `timeout_s` is the deadline of requests to a tensor model that bring none.
    """

    waiting_max: Size
    waiting_tokens_max: Size
    ttft_s: FiniteFloat
    itl_s: FiniteFloat
    timeout_s: Annotated[FiniteFloat, Field(gt=0)] | None = None


class Batching(_Value):
    """How a tensor engine forms its batches; the words are those of `model.toml`."""

    batch_max: Size
    preferred: list[Size] = []
    delay_s: Annotated[FiniteFloat, Field(ge=0)] = 0.0


class TensorSpec(_Value):
    """One input or output of a tensor model: `datatype` in the Open Inference Protocol's words, -1 for a free size."""

    name: Annotated[str, Field(min_length=1, max_length=256)]
    datatype: Name
    shape: Annotated[list[int], Field(max_length=16)]


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
    bounds: Bounds
    threads: Size
    engine: EngineKind = "decoder"
    batching: Batching | None = None


class AttachFrontEnd(_Message):
    kind: Literal["attach_front_end"] = "attach_front_end"
    descriptors: ClassVar[int] = 2
    front_end: FrontEndId
    epoch: Size


class DetachFrontEnd(_Message):
    """The front end is gone: its sequences vanish, nobody reads its outputs."""

    kind: Literal["detach_front_end"] = "detach_front_end"
    front_end: FrontEndId


class SetTerms(_Message):
    """The terms of tenants, in place of what was said of them before."""

    kind: Literal["set_terms"] = "set_terms"
    tenants: Annotated[list[TenantTerms], Field(max_length=TENANTS_MAX - 1)]


class SetBounds(_Message):
    """The bounds of the model that is served, in place of those that it was loaded with."""

    kind: Literal["set_bounds"] = "set_bounds"
    bounds: Bounds


class Drain(_Message):
    """Take no new work and finish what runs; at `deadline_s` of the monotonic clock give up the rest.

    A front end that is `replaced` stops listening, and answers whom it has for half of that time.
    """

    kind: Literal["drain"] = "drain"
    deadline_s: FiniteFloat
    replaced: bool = False


class Stop(_Message):
    """Leave now."""

    kind: Literal["stop"] = "stop"


class Loaded(_Message):
    """`target` is the device that it runs on, `precision` what its weights are held in.

    `inputs` and `outputs` are a tensor model's; it has no vocabulary, and its context is the most rows of one request
    and its answer: 2 when requests never share a run, and each counts as one row whatever its shape.
    """

    kind: Literal["loaded"] = "loaded"
    context_max: Size
    vocab: Size
    blocks: Size
    weight_bytes: Size
    seconds: FiniteFloat
    target: Name = "cpu"
    precision: Dtype = "float32"
    inputs: Annotated[list[TensorSpec], Field(max_length=64)] = []
    outputs: Annotated[list[TensorSpec], Field(max_length=64)] = []
    key: Compatibility


class Ready(_Message):
    """Warm: the engine answers from now on."""

    kind: Literal["ready"] = "ready"


class Failed(_Message):
    """This model version cannot be served; trying again would end the same way."""

    kind: Literal["failed"] = "failed"
    reason: Reason


class Listening(_Message):
    """The front end takes connections."""

    kind: Literal["listening"] = "listening"


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


class Introduced(_Message):
    """A front end that was welcomed has been told of every model and replica that there is."""

    kind: Literal["introduced"] = "introduced"


class SetTenants(_Message):
    """Everybody who may ask, in place of what was said before: all at once, and too long for a message."""

    kind: Literal["set_tenants"] = "set_tenants"
    descriptors: ClassVar[int] = 1


class SetCertificate(_Message):
    """The public listener's key and certificates from now on, as `aruntime.control.certificate` has checked them."""

    kind: Literal["set_certificate"] = "set_certificate"
    descriptors: ClassVar[int] = 1


class ReplicaState(_Message):
    """How a replica is, in place of what was said of it before; `reason` says why it is not ready.

    `bounds` are known once it is loaded. One that is stopped is forgotten.
    """

    kind: Literal["replica_state"] = "replica_state"
    replica: Count
    model: Name
    version: Size
    life: Life
    reason: Reason
    bounds: Bounds | None = None


class VersionEntry(_Value):
    """A version of a model as it is on this server, and the memory that is set aside for it.

    `created_s` is when it was published, seconds since 1970.
    """

    version: Size
    state: VersionState
    created_s: Count
    bytes: Count = 0
    reason: Annotated[str, Field(max_length=200)] = ""


class Split(_Value):
    """A rollout: `share` of the requests without a version go to `version`, `mirror` of them are copied to it.

    `salt` decides who: the same tenants and sessions stay with the new version while the share grows.
    """

    version: Size
    share: Share
    mirror: Share
    salt: Count


class ModelState(_Message):
    """What front ends know of a model, in place of what was said of it before.

    `labels` name versions; "stable" is what a request without a version means. `callers` are the tenants that may call
    it. `on_demand`: a request for a version that is not loaded may wait until it is. `required`: without it the server
    is not ready. `pending`: the supervisor has yet to load it, or to give up. Without versions the model is gone.
    """

    kind: Literal["model_state"] = "model_state"
    model: Name
    callers: list[Name] | None = None
    labels: Annotated[dict[Name, Size], Field(max_length=64)] = {}
    split: Split | None = None
    on_demand: bool = False
    required: bool = True
    pending: bool = False
    versions: Annotated[list[VersionEntry], Field(max_length=VERSIONS_MAX)] = []


class Dependencies(_Message):
    """How what the supervisor leans on is; an empty reason is well. Without TLS there is no certificate."""

    kind: Literal["dependencies"] = "dependencies"
    journal: Reason
    certificate: Reason | None = None


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
    engine: EngineKind = "decoder"
    inputs: Annotated[list[TensorSpec], Field(max_length=64)] = []
    outputs: Annotated[list[TensorSpec], Field(max_length=64)] = []
    key: Compatibility


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


class RetireReplica(_Message):
    """Send nothing new to this replica; say `Retired` when nothing of yours is left there."""

    kind: Literal["retire_replica"] = "retire_replica"
    replica: Count
    epoch: Size


class Retired(_Message):
    kind: Literal["retired"] = "retired"
    replica: Count
    epoch: Size


class DetachReplica(_Message):
    kind: Literal["detach_replica"] = "detach_replica"
    replica: Count


class Wanted(_Message):
    """Requests wait for this version, which is not loaded; None: for whatever the model serves."""

    kind: Literal["wanted"] = "wanted"
    model: Name
    version: Size | None = None


class Act(_Message):
    """An operator wants something done (`aruntime.wire.actions`); the answer is the Outcome of the same `number`.

    `actor` and `request_id` are for the audit trail.
    """

    kind: Literal["act"] = "act"
    descriptors: ClassVar[int] = 1
    number: Count
    actor: Name
    request_id: Annotated[str, Field(max_length=128)] = ""


class Outcome(_Message):
    """How an operator's action ended: `code` is "ok", and the memory file holds the result, or an error's.

    `param` names what is wrong in the action, if something is.
    """

    kind: Literal["outcome"] = "outcome"
    descriptors: ClassVar[int] = 1
    number: Count
    code: Name
    message: Reason = ""
    param: Annotated[str, Field(max_length=200)] | None = None


class Prepared(_Message):
    """The prober has read the golden questions and the tokenizer, and waits for the engine."""

    kind: Literal["prepared"] = "prepared"


class Probe(_Message):
    """Ask the replica behind these descriptors the golden questions. `alone`: nobody else sends to it meanwhile."""

    kind: Literal["probe"] = "probe"
    descriptors: ClassVar[int] = 4
    replica: Count
    epoch: Size
    context_max: Size
    vocab: Size
    blocks: Size
    block_tokens: Size
    sequences_max: Size
    target: Name
    precision: Dtype
    alone: bool
    timeout_s: FiniteFloat


class Probed(_Message):
    """How the golden questions were answered: `passed`, or the reason, and whether it is the answers that are wrong."""

    kind: Literal["probed"] = "probed"
    passed: bool
    wrong: bool = False
    questions: Count = 0
    reason: Reason = ""


Message = (
    Load | AttachFrontEnd | DetachFrontEnd | SetTerms | SetBounds | Drain | Stop | Loaded | Ready | Failed | Drained
    | Hello | Welcome | Introduced | SetTenants | SetCertificate | Dependencies | ModelState | ReplicaState
    | AttachReplica | Listening | Attached | Refused | RetireReplica | Retired | DetachReplica | Wanted | Act | Outcome
    | Prepared | Probe | Probed
)  # fmt: skip

_LIST = TypeAdapter(TenantList)
_ANY: TypeAdapter[Message] = TypeAdapter(Annotated[Message, Field(discriminator="kind")])


def encode(message: Message) -> bytes:
    """The message's bytes."""
    return message.model_dump_json().encode()


def decode(data: bytes, descriptors: int) -> Message:
    """Read a message that came with so many descriptors. ValueError says what is wrong with it."""
    message = _read(_ANY, data)
    if descriptors != message.descriptors:
        raise ValueError(f"{message.kind} carries {message.descriptors} descriptors, got {descriptors}")
    return message


def encode_tenants(tenants: TenantList) -> bytes:
    """What the memory file of `SetTenants` holds."""
    return tenants.model_dump_json().encode()


def decode_tenants(data: bytes) -> TenantList:
    """Read the memory file of `SetTenants`. ValueError says what is wrong with it."""
    return _read(_LIST, data)


def _read(adapter: TypeAdapter[Read], data: bytes) -> Read:
    try:
        return adapter.validate_json(data)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise ValueError(f"control message: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
