"""`tenants.toml`: who may ask, with which keys and on what terms. Read at start, and again when it changes.

    [admin]
    keys = ["sha256:<64 hex digits>"]

    [tenants.acme]
    keys = ["sha256:<64 hex digits>"]
    weight = 2.0

It holds the sha256 of each key and no key; it is refused all the same when others than its owner may read or write it.
"""

import itertools
import os
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, ValidationInfo, field_validator
from pydantic_core import PydanticCustomError

from aruntime.control.settings import TenantName, VersionRefused, parse_settings
from aruntime.control.watched import WatchedFile
from aruntime.queue.columns import TENANTS_MAX
from aruntime.wire.control import SetTerms, Share, TenantEntry, TenantList, TenantTerms

_BYTES_MAX = 512 * 1024
_PREFIX = "sha256:"

Digest = Annotated[str, Field(pattern=rf"^{_PREFIX}[0-9a-f]{{64}}$")]
Keys = Annotated[list[Digest], Field(max_length=8)]
Rate = Annotated[int, Field(ge=1, le=10**12)]


class TenantsRefused(ValueError):
    """The tenants' file cannot be used; the message says why, in words for its owner, and holds none of its values."""


class _Table(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class TenantSettings(_Table):
    """One tenant's terms; what is not given is no limit, and one share like everybody's."""

    keys: Keys
    """None: it may not ask."""
    weight: Annotated[float, Field(ge=0.001, le=1000)] = 1.0
    """Its share of service among those who want it."""
    requests_per_minute: Rate | None = None
    tokens_per_minute: Rate | None = None
    """Prompt and output."""
    sequences_max: Annotated[int, Field(ge=1, le=1 << 20)] | None = None
    """At once, over all models."""
    cache_max: Annotated[float, Field(gt=0, le=1)] = 1.0
    """The most of each replica's cache that it may hold."""
    cache_reserved: Share = 0.0
    """What of it it can always have back."""
    tokens_per_s_reserved: Annotated[float, Field(ge=0, le=1e9)] = 0.0
    """Service that it gets before anybody else gets more."""
    prefix_group: TenantName | None = None
    """Tenants of one group share cached prefixes; without one it shares with nobody."""


class AdminSettings(_Table):
    """Who may use the admin listener."""

    keys: Keys


class TenantsSettings(_Table):
    """The whole file."""

    admin: AdminSettings = AdminSettings(keys=[])
    tenants: Annotated[dict[TenantName, TenantSettings], Field(max_length=TENANTS_MAX - 1)] = {}

    @field_validator("tenants")
    @classmethod
    def _no_key_twice_and_no_more_than_the_cache(
        cls, tenants: dict[str, TenantSettings], so_far: ValidationInfo
    ) -> dict[str, TenantSettings]:
        seen = set(so_far.data["admin"].keys) if "admin" in so_far.data else set()
        for name, tenant in tenants.items():
            if tenant.cache_reserved > tenant.cache_max:
                raise PydanticCustomError("shares", "{name}: cache_reserved is more than cache_max", {"name": name})
            for key in tenant.keys:
                if key in seen:
                    raise PydanticCustomError("keys", "{name}: one of its keys stands here twice", {"name": name})
                seen.add(key)
        reserved = sum(tenant.cache_reserved for tenant in tenants.values())
        if reserved > 1 + 1e-9:
            raise PydanticCustomError("shares", "cache_reserved adds up to {sum}, at most 1", {"sum": f"{reserved:g}"})
        return tenants


def read_tenants(path: Path) -> TenantsSettings:
    """Read the file. TenantsRefused says what is wrong with it, or that others may read it."""
    try:
        with path.open("rb") as file:
            mode = os.fstat(file.fileno()).st_mode & 0o777
            text = file.read(_BYTES_MAX + 1)
    except OSError as error:
        raise TenantsRefused(f"{path} cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise TenantsRefused(f"{path}: others than its owner may read or write it (mode {mode:o}): chmod 600")
    return parse_tenants(text, path)


def parse_tenants(text: bytes, path: Path) -> TenantsSettings:
    """Read the text of the file at `path`. TenantsRefused says what is wrong with it."""
    if len(text) > _BYTES_MAX:
        raise TenantsRefused(f"{path} is longer than {_BYTES_MAX} bytes")
    try:
        return parse_settings(text, str(path), TenantsSettings)
    except VersionRefused as error:
        raise TenantsRefused(str(error)) from None


class Tenants:
    """The tenants as the supervisor knows them: `listed` for front ends, `terms` for engines.

    A name keeps its index while the supervisor lives and nobody else gets it: what was counted or cached for a tenant
    that is gone is never another's. With no path there are no tenants, and nobody is asked for a key.
    """

    def __init__(self, path: Path | None = None) -> None:
        self.path = path
        self.listed = TenantList()
        self._index: dict[str, int] = {}
        self._group: dict[str, int] = {}
        self._next_group = itertools.count(TENANTS_MAX)  # below it is each tenant's own
        self._file = WatchedFile(path)
        self.read()

    @property
    def terms(self) -> SetTerms:
        """Terms of every index that was ever given; those of tenants that are gone bind nobody any more."""
        gone = {index: TenantTerms(index=index, prefix_group=index) for index in self._index.values()}
        here = {entry.index: _terms(entry) for entry in self.listed.tenants or ()}
        return SetTerms(tenants=list((gone | here).values()))

    def has_changed(self) -> bool:
        """Whether it is another file than was read, and nobody is writing it now."""
        return self._file.has_changed()

    def read(self) -> None:
        """Read the file. TenantsRefused when it is not as it must be; everything then stays as it was."""
        if self.path is None:
            return
        self._file.begin_reading()
        settings = read_tenants(self.path)
        new = [name for name in settings.tenants if name not in self._index]
        if len(self._index) + len(new) >= TENANTS_MAX:
            raise TenantsRefused(f"{self.path}: more than {TENANTS_MAX - 1} names since the server started: restart it")
        self._index |= {name: index for index, name in enumerate(new, len(self._index) + 1)}
        groups = {tenant.prefix_group for tenant in settings.tenants.values() if tenant.prefix_group is not None}
        # A group that comes back is a new one: it finds nothing that was cached for the old one.
        self._group = {group: self._group.get(group) or next(self._next_group) for group in sorted(groups)}
        self.listed = TenantList(
            tenants=[self._entry(name, tenant) for name, tenant in settings.tenants.items()],
            admin_keys=_digests(settings.admin.keys),
        )

    def _entry(self, name: str, tenant: TenantSettings) -> TenantEntry:
        index = self._index[name]
        group = index if tenant.prefix_group is None else self._group[tenant.prefix_group]
        given = tenant.model_dump(exclude={"keys", "prefix_group"})
        return TenantEntry(index=index, name=name, keys=_digests(tenant.keys), prefix_group=group, **given)


def _terms(entry: TenantEntry) -> TenantTerms:
    return TenantTerms(**entry.model_dump(include=set(TenantTerms.model_fields)))


def _digests(keys: list[str]) -> list[str]:
    return [key.removeprefix(_PREFIX) for key in keys]
