"""Stable-Baselines3 is an extra: what to say where it is missing."""

import importlib

EXTRA = 'students and models of Stable-Baselines3 need it: install it with `pip install "clutr[sb3]"`'


def require_sb3() -> None:
    """Import it. Raises `ImportError` saying what to install."""
    try:
        for name in ("stable_baselines3", "sb3_contrib"):
            importlib.import_module(name)
    except ImportError as error:
        raise ImportError(EXTRA) from error
