"""What `model.toml` and `version.toml` may say. An unknown key is refused, so a misspelt limit never goes unnoticed."""

import tomllib
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator
from pydantic_core import PydanticCustomError

from aruntime.admission.tenants import NOBODY
from aruntime.base.names import is_name
from aruntime.queue.columns import TENANTS_MAX
from aruntime.wire.control import Bounds, EngineKind, Precision

_TOML_BYTES_MAX = 64 * 1024


def _tenant_name(text: str) -> str:
    if not is_name(text) or text == NOBODY.name:
        raise PydanticCustomError("name", "cannot name a tenant: want [a-z0-9][a-z0-9._-]{{0,63}}")
    return text


def _label(text: str) -> str:
    if not is_name(text):
        raise PydanticCustomError("name", "cannot be a label: want [a-z0-9][a-z0-9._-]{{0,63}}")
    return text


TenantName = Annotated[str, AfterValidator(_tenant_name)]
Label = Annotated[str, AfterValidator(_label)]
Share = Annotated[float, Field(ge=0, le=1)]


class VersionRefused(ValueError):
    """A model version cannot be served; the message says why, in words for its owner."""


class _Settings(BaseModel):
    # What stands below a field describes it in the JSON Schema.
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True)


class Limits(_Settings):
    """What one replica of a model takes. A value that is not given here is the server's."""

    sequences_max: Annotated[int, Field(ge=1, le=4096)] = 64
    """Sequences that share a step."""
    waiting_max: Annotated[int, Field(ge=1, le=65_536)] = 256
    """Sequences that wait for their first step; one more is answered 503."""
    waiting_tokens_max: Annotated[int, Field(ge=1, lt=1 << 31)] = 1 << 20
    """Tokens of prompts that no token has followed yet; one prompt more is answered 503, unless it is the only one."""
    step_tokens_max: Annotated[int, Field(ge=16, le=65_536)] = 512
    """Tokens that one step computes, over all its sequences."""
    cache_bytes: Annotated[int, Field(ge=1 << 20, lt=1 << 48)] | None = None
    """Keys and values."""
    block_tokens: Literal[8, 16, 32, 64] = 16
    """Tokens of one block of the cache."""
    replicas: Annotated[int, Field(ge=1, le=16)] = 1
    """Engines of each version that is loaded."""


class Residency(_Settings):
    """When a model is in memory."""

    load: Literal["at-start", "on-demand"] = "at-start"
    """On demand: when the first request comes, which waits for it."""
    pinned: bool = False
    """Never evicted to make room for another model."""
    idle_s: Annotated[float, Field(gt=0, le=30 * 86_400)] | None = None
    """Unloaded after so long without a request; the next one loads it again."""
    cache_bytes_min: Annotated[int, Field(ge=1 << 20, lt=1 << 48)] | None = None
    """What of `cache_bytes` it cannot do without: where memory is short it gets less, but never less than this."""


class RolloutPolicy(_Settings):
    """How a new version takes over, and what sends it back. Shares are of the requests that name no version."""

    strategy: Literal["canary", "drain-first"] = "canary"
    """Drain first: the old version leaves memory before the new one enters it; requests wait meanwhile."""
    automatic: bool = False
    """Begin as soon as a version newer than the stable one is published."""
    shadow_share: Share = 0.1
    """Copied to the new version before any answer of it is used."""
    steps: Annotated[list[Annotated[float, Field(gt=0, le=1)]], Field(min_length=1, max_length=16)] = [
        0.01, 0.05, 0.25, 0.5, 1.0
    ]  # fmt: skip
    """Shares that get its answers, one after the other; each more than the last."""
    window_s: Annotated[float, Field(gt=0, le=86_400)] = 60.0
    """Shadow and every step last at least so long."""
    requests_min: Annotated[int, Field(ge=1, le=1_000_000)] = 50
    """And until so many requests of the new version have ended."""
    patience_s: Annotated[float, Field(gt=0, le=30 * 86_400)] = 3600.0
    """What has not come to its end so long after its window is over is paused, for somebody to look at."""
    bake_s: Annotated[float, Field(ge=0, le=7 * 86_400)] = 300.0
    """How long the old version stays warm after the last step."""
    errors_more_max: Share = 0.01
    """Errors of the new version, as a share of its requests, beyond those of the stable one."""
    empty_more_max: Share = 0.02
    """Answers without any text, likewise."""
    ttft_ratio_max: Annotated[float, Field(ge=1, le=100)] = 1.3
    """p95 of the time to the first token, beside the stable version's."""
    itl_ratio_max: Annotated[float, Field(ge=1, le=100)] = 1.3
    """p95 of the time between two tokens."""
    drift_max: Share = 0.2
    """How far the shares of cut and of stopped answers, and the distribution of lengths, may lie apart."""
    golden: bool = True
    """Ask the new version's golden questions again in every step, under load."""
    deaths_max: Annotated[int, Field(ge=0, le=1000)] = 2
    """Of its engines; one more sends it back."""
    confidence: Annotated[float, Field(ge=0.5, lt=1)] = 0.99
    """How sure it is that a version as good as the stable one is not sent back by chance, over the whole rollout."""

    @field_validator("steps")
    @classmethod
    def _grow(cls, steps: list[float]) -> list[float]:
        if any(later <= earlier for earlier, later in pairwise(steps)):
            raise PydanticCustomError("steps", "want shares that grow from step to step")
        return steps


class TensorBatching(_Settings):
    """How requests to a tensor model are put together; of no use to language models, which batch by the step."""

    batch_max: Annotated[int, Field(ge=1, le=4096)] = 8
    """Rows of one batch."""
    preferred: Annotated[list[Annotated[int, Field(ge=1, le=4096)]], Field(max_length=32)] = []
    """Sizes that are run at once; others wait for more, up to `delay_s`."""
    delay_s: Annotated[float, Field(ge=0, le=10)] = 0.0
    """How long a request may wait for others to share its batch."""
    timeout_s: Annotated[float, Field(gt=0, le=86_400)] | None = None
    """The deadline of requests that bring none."""

    @model_validator(mode="after")
    def _preferred_sizes_fit(self) -> "TensorBatching":
        if any(size > self.batch_max for size in self.preferred):
            raise PydanticCustomError("size", "preferred sizes are at most batch_max")
        return self


class Objectives(_Settings):
    """What a model's users were promised. Admission keeps the queue as short, a step as small, as this needs."""

    ttft_s: Annotated[float, Field(gt=0, le=3600)] = 2.0
    """From arrival to the first token: who would have to wait longer in the queue is refused at the door."""
    itl_s: Annotated[float, Field(gt=0, le=60)] = 0.1
    """Between two tokens: a step takes no more of a prompt than this allows."""


class ModelSettings(_Settings):
    """`model.toml`: what holds for every version of a model."""

    callers: Annotated[list[TenantName], Field(max_length=TENANTS_MAX - 1)] | None = None
    """The tenants that may call it; everybody when it does not say."""
    limits: Limits = Limits()
    """What one replica takes."""
    objectives: Objectives = Objectives()
    """What its users were promised."""
    residency: Residency = Residency()
    """When it is in memory."""
    rollout: RolloutPolicy = RolloutPolicy()
    """How a new version takes over."""
    batching: TensorBatching = TensorBatching()
    """How requests to a tensor model are put together."""
    labels: Annotated[dict[Label, Annotated[int, Field(ge=1, le=999_999_999)]], Field(max_length=32)] = {}
    """Versions by name, for a server that knows none yet; from then on labels are moved by command."""

    @property
    def bounds(self) -> Bounds:
        """What of it may change while the model is served, besides `callers`."""
        return Bounds(
            waiting_max=self.limits.waiting_max,
            waiting_tokens_max=self.limits.waiting_tokens_max,
            ttft_s=self.objectives.ttft_s,
            itl_s=self.objectives.itl_s,
            timeout_s=self.batching.timeout_s,
        )


class Provenance(_Settings):
    """Where a version came from."""

    source: Annotated[str, Field(max_length=500)]
    """The folder that it was made of, or whatever its publisher calls it."""
    published: datetime
    """When, with a time zone."""


class VersionSettings(_Settings):
    """`version.toml`: what one version needs."""

    engine: EngineKind = "decoder"
    """What serves it: decoder for a Hugging Face folder, onnx for model.onnx."""
    precision: Precision = "checkpoint"
    """What weights are held in."""
    cache_precision: Precision = "checkpoint"
    """What keys and values are held in."""
    target: Literal["any", "cpu", "cuda"] = "any"
    """The hardware that it was built for."""
    provenance: Provenance
    """Where it came from."""

    @property
    def created_s(self) -> int:
        """When it was published, seconds since 1970."""
        return max(0, int(self.provenance.published.timestamp()))

    def to_toml(self) -> str:
        """The text of `version.toml`."""
        published = self.provenance.published.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        source = "".join(c if c.isprintable() and c not in '\\"' else "?" for c in self.provenance.source)
        return (
            f'engine = "{self.engine}"\n'
            f'precision = "{self.precision}"\n'
            f'cache_precision = "{self.cache_precision}"\n'
            f'target = "{self.target}"\n\n'
            f'[provenance]\nsource = "{source}"\npublished = {published}\n'
        )


S = TypeVar("S", bound=BaseModel)


def read_settings(path: Path, kind: type[S]) -> S:
    """Read a TOML file as `kind`. VersionRefused names the file and the first wrong key."""
    try:
        with path.open("rb") as file:
            text = file.read(_TOML_BYTES_MAX + 1)
        if len(text) > _TOML_BYTES_MAX:
            raise VersionRefused(f"{path.name} is longer than {_TOML_BYTES_MAX} bytes")
        return parse_settings(text, path.name, kind)
    except OSError as error:
        raise VersionRefused(f"{path.name} cannot be read: {error.strerror}") from None


def parse_settings(text: bytes, name: str, kind: type[S]) -> S:
    """Read the text of the TOML file `name` as `kind`. VersionRefused names the first wrong key, never its value."""
    try:
        return kind.model_validate(tomllib.loads(text.decode()))
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        raise VersionRefused(f"{name}: {'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as error:
        raise VersionRefused(f"{name} is not TOML: {error}") from None
