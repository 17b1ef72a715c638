"""Who goes to the candidate."""

import hashlib


def goes_to_candidate(salt: int, tenant_name: str, session: str, share: float) -> bool:
    """Sticky, monotone in share."""
    digest = hashlib.blake2b(f"{tenant_name}\0{session}".encode(), digest_size=8, key=str(salt).encode()).digest()
    return int.from_bytes(digest, "big") < share * 2**64
