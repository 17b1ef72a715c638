"""Names of models, adapters, tenants, requests and hosts, and what a request's `model` field may say.

name   name@version   name@label   name:adapter
"""

import ipaddress
import re
from dataclasses import dataclass
from functools import lru_cache

from aruntime.base.errors import ModelNotFound

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")
_VERSION = re.compile(r"[1-9][0-9]{0,8}")


def is_name(text: str) -> bool:
    """Whether `text` may name a model, a label, an adapter or a tenant."""
    return _NAME.fullmatch(text) is not None and ".." not in text


def is_request_id(text: str) -> bool:
    """Whether `text` may stand in `x-request-id`."""
    return _REQUEST_ID.fullmatch(text) is not None


def is_version(text: str) -> bool:
    """Whether `text` is a version's folder name: a positive integer without leading zeros."""
    return _VERSION.fullmatch(text) is not None


@lru_cache(maxsize=256)
def is_loopback(host: str) -> bool:
    """Whether `host`, a name or an address, is this machine's own and nobody else's."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


@dataclass(frozen=True, slots=True)
class ModelRef:
    """What a request asked for: a model, and a version or a label or an adapter of it."""

    name: str
    version: int | None = None
    label: str | None = None
    adapter: str | None = None

    @classmethod
    def parse(cls, text: str) -> "ModelRef":
        """Read a `model` field. ModelNotFound when it cannot be the name of anything."""
        name, at, selector = text.partition("@")
        name, colon, adapter = name.partition(":")
        if not is_name(name) or (colon and not is_name(adapter)) or (at and colon):
            raise ModelNotFound(f"no model {text[:80]!r}", param="model")
        if not at:
            return cls(name, adapter=adapter or None)
        if is_version(selector):
            return cls(name, version=int(selector))
        if is_name(selector):
            return cls(name, label=selector)
        raise ModelNotFound(f"no model {text[:80]!r}", param="model")
