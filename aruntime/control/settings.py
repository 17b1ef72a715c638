"""What `model.toml` and `version.toml` may say. An unknown key is refused, so a misspelt limit never goes unnoticed."""

import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import PydanticCustomError

from aruntime.admission.tenants import NOBODY
from aruntime.base.names import is_name
from aruntime.queue.columns import TENANTS_MAX
from aruntime.wire.control import Bounds, Precision

_TOML_BYTES_MAX = 64 * 1024


def _tenant_name(text: str) -> str:
    if not is_name(text) or text == NOBODY.name:
        raise PydanticCustomError("name", "cannot name a tenant: want [a-z0-9][a-z0-9._-]{{0,63}}")
    return text


TenantName = Annotated[str, AfterValidator(_tenant_name)]


class VersionRefused(ValueError):
    """A model version cannot be served; the message says why, in words for its owner."""


class _Settings(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


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
    objectives: Objectives = Objectives()

    @property
    def bounds(self) -> Bounds:
        """What of it may change while the model is served, besides `callers`."""
        return Bounds(
            waiting_max=self.limits.waiting_max,
            waiting_tokens_max=self.limits.waiting_tokens_max,
            ttft_s=self.objectives.ttft_s,
            itl_s=self.objectives.itl_s,
        )


class Provenance(_Settings):
    """Where a version came from."""

    source: Annotated[str, Field(max_length=500)]
    published: datetime


class VersionSettings(_Settings):
    """`version.toml`: what one version needs."""

    engine: Literal["decoder"] = "decoder"
    precision: Precision = "checkpoint"
    """What weights are held in."""
    cache_precision: Precision = "checkpoint"
    """What keys and values are held in."""
    target: Literal["any", "cpu", "cuda"] = "any"
    """The hardware that it was built for."""
    provenance: Provenance

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
