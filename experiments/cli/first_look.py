"""What can be told of arguments at once, without importing what trains and plays."""

from difflib import get_close_matches
from pathlib import Path

from clutr.envs.registry import no_such
from clutr.experiments.cli.arguments import Arguments, UsageError, choose, take
from clutr.experiments.cli.names import manifold_presets, presets, registered, suites, training_options
from clutr.experiments.directories import is_file, look_at_file, look_at_run, require_no_run
from clutr.experiments.evaluation.suite_names import require_suite_name
from clutr.experiments.files import expanded
from clutr.experiments.plain_config import options_in, read_text
from clutr.experiments.pretrained import card, is_name
from clutr.experiments.training.seeds import parse_seeds


def look_at_training(args: Arguments) -> None:
    """Tell what is wrong with names and paths before anything is imported that takes long."""
    if args and is_file(args[0]):
        look_at_file(expanded(args[0]))
    else:
        known = presets()
        choose("preset", known, known.__getitem__, "train", args)
    if {"-h", "--help"} & set(args):
        return
    for part in ("student", "backend"):
        chosen, _ = take(part, args)
        if chosen is not None and chosen not in registered(f"{part}s"):
            raise UsageError(no_such(part, chosen, registered(f"{part}s")))
    manifold = take("manifold", args)[0]
    if manifold is not None and not is_file(args[0]):
        known_manifolds = manifold_presets(presets()[args[0]].partition(":")[0])
        if is_name(manifold):
            card(manifold, "manifold")
        elif known_manifolds and manifold not in known_manifolds:
            raise UsageError(no_such("manifold", manifold, known_manifolds))
    _look_at_options(args)
    run, seeds = take("run", args)[0], take("seeds", args)[0]
    if seeds is not None:
        parse_seeds(seeds)
    elif run:
        require_no_run(run)


def _look_at_options(args: Arguments) -> None:
    """Tell of options that no part has, and of words where a number is due."""
    known, more = training_options(), f"(`clutr train {args[0]} --help` tells more)"
    if not known:
        return
    given = {
        arg: arg.partition("=")[0].replace("_", "-") for arg in args[1:] if arg.startswith("--") and arg.strip("-")
    }
    if unknown := [name for name in given.values() if name not in known]:
        meant = get_close_matches(unknown[0], known, n=1, cutoff=0.75)
        hint = f"; did you mean {meant[0]}?" if meant else ""
        raise UsageError(f"Unrecognized options: {', '.join(unknown)}{hint} {more}")
    for arg, name in given.items():
        number = take(arg.partition("=")[0][2:], args)[0]
        try:
            {"int": int, "float": float, "": str}[known[name]](number or 0)
        except ValueError as error:
            raise UsageError(f"Error parsing {name}: {error} {more}") from None


def look_at_suite(path: Path | str, suite: str | None) -> None:
    """Tell that a path is no run, or that the run's environment has no such suite. Raises `RunError`."""
    look_at_run(path)
    known = suites()
    if suite is None or is_name(path) or not known:
        return
    domain = options_in(read_text(expanded(path) / "config.yaml"), "config.yaml").get("domain")
    here = domain.get("kind") if isinstance(domain, dict) else None
    if here in known:
        require_suite_name(str(here), suite, known)
