"""Who goes to the candidate of a rollout: the same tenants and sessions, as long as it lasts.

    draw of (salt, tenant, session)  <  share        so whoever is in at 5 % is in at 25 % too

The draw is a keyed hash: even over any names, and of another rollout, which has another salt, it is another draw.
"""

from hashlib import blake2b

_DRAWS = 1 << 64


def goes_to_candidate(salt: int, tenant: str, session: str, share: float) -> bool:
    """Whether `share` of all includes this one. Who has no session says the request's id in its place."""
    return _draw(b"split", salt, tenant, session) < share * _DRAWS


def is_mirrored(salt: int, tenant: str, session: str, share: float) -> bool:
    """Whether its requests are copied to the candidate: drawn independently of who goes there."""
    return _draw(b"mirror", salt, tenant, session) < share * _DRAWS


def _draw(purpose: bytes, salt: int, tenant: str, session: str) -> int:
    # No tenant's name has a NUL in it.
    digest = blake2b(f"{tenant}\0{session}".encode(), digest_size=8, key=salt.to_bytes(8), person=purpose)
    return int.from_bytes(digest.digest())
