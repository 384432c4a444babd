"""Derivation of seeds, so that everything random has its own stream."""

from __future__ import annotations

import hashlib


def derive_seed(seed: int, *parts: object) -> int:
    """Derive a seed below 2**31 from another seed and the names of its purpose.

    Derived seeds do not depend on the order in which they are requested.

    Args:
        seed: The original seed.
        parts: Objects with a stable string form, such as ``"round", 2``.
    """
    text = "/".join([str(seed), *(str(part) for part in parts)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:4], "big") >> 1
