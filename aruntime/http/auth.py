"""Nobody gets further without a key: a layer of pure ASGI inside the edge. What is not said to be open is closed.

    liveness                           everybody
    tenants are configured             a tenant's key
    the admin listener has a key       the admin key
    neither                            this machine only: a loopback address, Host and Origin

It decides by `scope["path"]`, which is what routing looks at too, and before the body is read. With no key to ask for,
a web page may still have pointed a name of its own at this machine (DNS rebinding); its requests say so in Host.
"""

from starlette.types import ASGIApp, Receive, Scope, Send

from aruntime.admission.registry import Registry
from aruntime.admission.tenants import NOBODY, Tenant
from aruntime.base.errors import InvalidApiKey, PermissionDenied
from aruntime.base.names import is_loopback

OPEN = frozenset({"/health/live", "/v2/health/live"})

# Headers that hold a key and nothing else.
_BARE = (b"api-key", b"x-api-key")


class Auth:
    """Wraps the application of a listener, the admin one or the public one; leaves the tenant in the scope's state."""

    def __init__(self, app: ASGIApp, registry: Registry, *, admin: bool) -> None:
        self._app = app
        self._registry = registry
        self._admin = admin

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] not in OPEN:
            scope["state"]["tenant"] = self._caller(scope)
        await self._app(scope, receive, send)

    def _caller(self, scope: Scope) -> Tenant:
        """Who asks. InvalidApiKey; PermissionDenied when a key would be asked for, had one been configured."""
        if not self._registry.asks(admin=self._admin):
            _check_local(scope)
            return NOBODY
        tenant = self._registry.find(_key(scope), admin=self._admin)
        if tenant is None:
            raise InvalidApiKey("this API key is not known here")
        return tenant


def _key(scope: Scope) -> bytes:
    """The key: of one header alone, `authorization: Bearer KEY`, Azure's `api-key` or Anthropic's `x-api-key`."""
    given = [(name, value) for name, value in scope["headers"] if name == b"authorization" or name in _BARE]
    if not given:
        raise InvalidApiKey("an API key is needed: authorization: Bearer KEY")
    if len(given) > 1:
        raise InvalidApiKey(f"want one API key, got {len(given)} headers with one")
    name, value = given[0]
    scheme, _, key = (b"bearer", b"", value) if name in _BARE else value.partition(b" ")
    if scheme.lower() != b"bearer":
        raise InvalidApiKey("want an API key as authorization: Bearer KEY")
    return bytes(key.strip())


def _check_local(scope: Scope) -> None:
    """PermissionDenied unless the request came to an address of this machine alone, from a page of it or from none."""
    address = scope["server"][0] if scope.get("server") else ""
    if not is_loopback(address):
        raise PermissionDenied("no API keys are configured: only this machine itself is answered")
    for name, value in scope["headers"]:
        host = value.decode("latin-1")
        if name == b"host" and not is_loopback(_hostname(host)):
            raise PermissionDenied("no API keys are configured: want a loopback name or address as Host")
        if name == b"origin" and not is_loopback(_hostname(host.partition("://")[2])):
            raise PermissionDenied("no API keys are configured: want no Origin, or a loopback one")


def _hostname(authority: str) -> str:
    """`authority` without its port, an IPv6 address without its brackets."""
    if authority.startswith("["):
        return authority[1:].partition("]")[0]
    return authority.partition(":")[0]
