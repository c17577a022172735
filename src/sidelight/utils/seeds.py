"""Seeds that follow from what they are for."""

from __future__ import annotations

import hashlib


def derive_seed(*what: object) -> int:
    """A seed that depends on the arguments alone; it is the same on every machine and in every version."""
    return int.from_bytes(hashlib.sha256("/".join(map(str, what)).encode()).digest()[:6], "big")
