"""One key, independent random streams. Nothing in AgentGym touches a global generator."""

import hashlib

import numpy as np


def stream(*key: int | str) -> np.random.Generator:
    """Return the generator of a key such as (run_seed, step, group, member, turn).

    Equal keys give equal streams in every process; keys that differ in any part give independent ones.
    """
    return np.random.Generator(np.random.Philox(key=key_int(*key, bits=128)))


def key_int(*key: int | str, bits: int = 63) -> int:
    """Return a non-negative integer of at most `bits` bits that depends on every part of the key."""
    text = "\x1f".join(f"{type(part).__name__}:{part}" for part in key)
    digest = hashlib.blake2b(text.encode(), digest_size=32).digest()
    return int.from_bytes(digest, "big") >> (256 - bits)
