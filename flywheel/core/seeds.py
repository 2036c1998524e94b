"""Random choices that repeat: every seed derives from the run's seed and the names of what it is for."""

from __future__ import annotations

import hashlib
import random


def derive(*names: object) -> int:
    """A seed of 31 bits from any names, the same on every machine and in every process."""
    text = "\x1f".join(str(name) for name in names)
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=4).digest(), "big") >> 1


def generator(*names: object) -> random.Random:
    """A random generator for these names, independent of all others."""
    return random.Random("\x1f".join(str(name) for name in names))
