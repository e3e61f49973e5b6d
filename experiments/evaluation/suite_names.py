"""Names of suites, told apart without importing what plays them."""

from collections.abc import Collection, Mapping

from clutr.envs.registry import no_such
from clutr.experiments.files import RunError


def require_suite_name(here: str, suite: str, known: Mapping[str, Collection[str]]) -> None:
    """Raise `RunError` unless the domain `here` has the suite; `known`: the names of all suites by domain."""
    if suite in known[here]:
        return
    for other, names in known.items():
        if suite in names:
            raise RunError(f"{suite} is a suite of {other}; this is on {here}, with: {', '.join(known[here])}")
    raise RunError(no_such("suite", suite, known[here]))
