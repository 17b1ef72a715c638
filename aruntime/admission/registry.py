"""Whose key is whose: the tenants of this server, found by the digest of a key.

    key ── sha256 ──► digest ── blake2b with a secret of this process ──► mark ──► (digest, tenant)

A mark says nothing of its digest, so the time of a look-up says nothing of what is stored; the whole digest is then
compared in constant time. Keys themselves are kept nowhere.
"""

import hashlib
import hmac
import secrets
from collections.abc import Iterable

from aruntime.admission.tenants import NOBODY, Tenant

KEY_BYTES_MAX = 512

Entry = tuple[Tenant, Iterable[bytes]]


class Registry:
    """Asks everybody for a key and knows none, until it is told who there is. `tenants` are NOBODY and all of them."""

    def __init__(self) -> None:
        self.tenants: tuple[Tenant, ...] = (NOBODY,)
        self._secret = secrets.token_bytes(32)
        self._asks = {False: True, True: True}
        self._holders: dict[bool, dict[bytes, tuple[bytes, Tenant]]] = {False: {}, True: {}}

    def replace(self, entries: Iterable[Entry] | None, admin_digests: Iterable[bytes] = ()) -> None:
        """Who there is from now on, each with the digests of its keys. None: nobody is asked for a key.

        The admin listener asks for a key of its own when there is one.
        """
        known = list(entries or ())
        admin = self._marks([(NOBODY, admin_digests)])
        self.tenants = (NOBODY, *(tenant for tenant, _ in known))
        self._holders = {False: self._marks(known), True: admin}
        self._asks = {False: entries is not None, True: bool(admin)}

    def asks(self, *, admin: bool) -> bool:
        """Whether a listener, the public or the admin one, asks for a key."""
        return self._asks[admin]

    def find(self, key: bytes, *, admin: bool) -> Tenant | None:
        """Whose key it is; of the admin keys, NOBODY's. None when it is nobody's here."""
        if not 0 < len(key) <= KEY_BYTES_MAX:
            return None
        digest = hashlib.sha256(key).digest()
        known, tenant = self._holders[admin].get(self._mark(digest), (b"", None))
        return tenant if hmac.compare_digest(known, digest) else None

    def _marks(self, entries: Iterable[Entry]) -> dict[bytes, tuple[bytes, Tenant]]:
        return {self._mark(digest): (digest, tenant) for tenant, digests in entries for digest in digests}

    def _mark(self, digest: bytes) -> bytes:
        return hashlib.blake2b(digest, key=self._secret).digest()
