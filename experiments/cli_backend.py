"""`clutr train PRESET --backend NAME`: the same experiment on other machines."""

import dataclasses

from agents.backend import BACKENDS
from experiments.arguments import Arguments, choose, take
from experiments.config import Experiment

SHORT = ("address", "runners", "learners")
"""Options of a backend that may be given without `backend.` before them."""


def other_backend(preset: Experiment, name: str, args: Arguments) -> tuple[Experiment, list[str]]:
    """The preset with the backend that `--backend NAME` asks for, and the arguments without it.

    `--runners 8` is read as `--backend.runners 8`, and so are the others in `SHORT`.
    """
    backend, rest = take("backend", args)
    if backend is None:
        return preset, rest
    known = {name: BACKENDS[name] for name in BACKENDS}
    chosen = choose("backend", known, f"train {name} --backend", [backend])
    offered = {field.name for field in dataclasses.fields(chosen)}
    for index, arg in enumerate(rest):
        option = arg.removeprefix("--").partition("=")[0]
        if arg.startswith("--") and option in SHORT and option in offered:
            rest[index] = f"--backend.{arg.removeprefix('--')}"
    return dataclasses.replace(preset, backend=chosen()), rest
