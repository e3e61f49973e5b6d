"""One named generator a purpose, made from the run's seed. Nothing in the project seeds globally."""

import hashlib

import torch


def derive_seed(seed: int, *purpose: str | int) -> int:
    """A 63-bit seed for `purpose`, statistically independent of every other purpose of the same `seed`."""
    text = "/".join([str(seed), *map(str, purpose)])
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little") >> 1


def named_generator(seed: int, *purpose: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """The generator for `purpose` ("teacher", "protagonist/actions", ...) of a run with `seed`."""
    return torch.Generator(device=device).manual_seed(derive_seed(seed, *purpose))
