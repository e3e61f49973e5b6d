"""What can be told of the arguments of `clutr train` at once, without importing what trains."""

from clutr.envs.registry import no_such
from clutr.experiments.cli.arguments import Arguments, UsageError, choose, take
from clutr.experiments.cli.names import manifold_presets, numbers_of, presets, registered
from clutr.experiments.directories import is_file, look_at_file, require_no_run
from clutr.experiments.files import expanded
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
    for field in numbers_of("experiments/config.py", "Experiment"):
        option = field.replace("_", "-")
        number = take(option, args)[0]
        try:
            int(number or 0)
        except ValueError as error:
            raise UsageError(f"Error parsing --{option}: {error} (`clutr train {args[0]} --help` tells more)") from None
    run, seeds = take("run", args)[0], take("seeds", args)[0]
    if seeds is not None:
        parse_seeds(seeds)
    elif run:
        require_no_run(run)
