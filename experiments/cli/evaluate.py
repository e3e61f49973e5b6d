"""The commands that test runs zero-shot, evaluate and compare, those of a Stable-Baselines3 script among them."""

import shlex
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from json import dumps
from pathlib import Path
from typing import Any

from clutr.experiments.cli.arguments import Arguments, UsageError, choose, command, run, take
from clutr.experiments.cli.first_look import look_at_suite
from clutr.experiments.cli.names import registered
from clutr.experiments.files import as_directory, as_output, expanded, require_writable


@dataclass(frozen=True)
class EvaluationOptions:
    """How a suite is played."""

    suite: str | None = None
    """The suite; by default its domain's first. `clutr list suites` names them."""
    episodes: int = 100
    """Episodes a level."""
    deterministic: bool = False
    """Take the most probable action instead of sampling."""
    seed: int = 1
    """Seed of levels and actions."""
    tracks: Path | None = None
    """Directory of the circuits' GeoJSON files, for --suite f1."""
    json: bool = False
    """Print one JSON object for machines."""


def evaluate(args: Arguments) -> None:
    """Zero-shot transfer: play a suite of levels that nobody trained on."""
    if any(arg.partition("=")[0] == "--sb3" for arg in args):
        _evaluate_model(args)
    else:
        run("eval", _evaluate_runs, args, options=EvaluationOptions())


def _evaluate_runs(
    runs: tuple[Path, ...], /, options: EvaluationOptions, cvar_levels: int = 0, checkpoint: int | None = None
) -> None:
    """Zero-shot transfer: play a suite of levels that nobody trained on.

    `clutr eval --sb3 MODEL.zip` tests a model of Stable-Baselines3 instead of a run.

    Args:
        runs: The runs' directories, or names of models that ship; several are shown side by side, and --json prints a
            line for each.
        options: How the suite is played.
        cvar_levels: With --suite random: also the solve rate on the worst of this many levels.
        checkpoint: Environment steps of the checkpoint that plays; by default the newest.
    """
    if not runs:
        raise UsageError("name at least one run: `clutr eval RUN`")
    for path in runs:
        look_at_suite(path, options.suite)
    import clutr
    from clutr.experiments.evaluation.runs import load_student, require_options
    from clutr.experiments.training.threads import use_cores

    use_cores()
    directories = {path: clutr.load_run(path) for path in dict.fromkeys(runs)}
    for directory in directories.values():  # whatever is refused is refused before any of them plays
        require_options(directory, options.suite, options.episodes, options.seed, cvar_levels)
        load_student(directory, checkpoint)
    results = [
        _play(directory, options, None, path, cvar_levels=cvar_levels, checkpoint=checkpoint)
        for path, directory in directories.items()
    ]
    _show(results, options.json)


_AS_IN_GYMNASIUM: dict[str, dict[str, Any]] = {"car": {"action_repeat": 1}}
"""Where the environments that such models know differ from what our students play."""


def _evaluate_model(args: Arguments) -> None:
    """Zero-shot transfer of a model that a Stable-Baselines3 script saved."""
    named, rest = take("domain", args)
    name, domains = "maze" if named is None else named, registered("domains")
    choose("domain", domains, domains.__getitem__, "eval --sb3 MODEL --domain", [name])
    model = take("sb3", rest)[0]
    with suppress(OSError):  # a name that is too long is told by who reads it
        if model and not expanded(model).exists():
            raise UsageError(f"there is no file {expanded(model)}")
    import clutr

    if {"-h", "--help"} & set(rest):
        rest = ["--help"]
    domain = clutr.DOMAINS[name](**_AS_IN_GYMNASIUM.get(name, {}))
    run("eval", _play_model, rest, options=EvaluationOptions(), domain=domain)


def _play_model(
    *, options: EvaluationOptions, domain: Any, sb3: Path, trust: bool = False, algorithm: str | None = None
) -> None:
    """Zero-shot transfer of a model that a Stable-Baselines3 script saved. --domain names the domain: maze or car.

    Args:
        options: How the suite is played.
        domain: The environments as the model knows them.
        sb3: What `model.save` wrote.
        trust: Load it, though loading runs code that the file holds.
        algorithm: What made it, such as ppo or sac; by default what it looks like.
    """
    from clutr.experiments.evaluation.own_policy import load_model

    if not trust:
        raise UsageError(
            "a model of Stable-Baselines3 is a zip file that runs code of its own when it is loaded: "
            + "add --trust if you know who made it"
        )
    policy, algorithm = load_model(sb3, domain, options.suite, algorithm)
    result = _play(policy, options, {"algorithm": algorithm, "domain": asdict(domain)}, sb3, domain=domain)
    _show([result], options.json)


def _play(
    player: Any, options: EvaluationOptions, about: dict[str, Any] | None, path: Path, **more: Any
) -> dict[str, Any]:
    """Evaluate a run or a policy that is called `path`; the result has `about` in its summary."""
    import clutr

    if options.tracks is not None:
        from clutr.envs.car.road.circuits import use_tracks

        use_tracks(options.tracks)
    more |= {"deterministic": options.deterministic, "seed": options.seed, "progress": not options.json}
    result = clutr.evaluate(player, options.suite, options.episodes, **more)
    result["run"], result["summary"] = str(path), result["summary"] | (about or {})
    return result


def _show(results: Sequence[dict[str, Any]], json: bool) -> None:
    """Evaluations as tables, one for each suite, or as a line of JSON each."""
    from clutr.experiments.display import console
    from clutr.experiments.evaluation.tables import cvar_table, evaluation_table

    if json:
        print("\n".join(map(dumps, results)))
        return
    names = [Path(result["run"]).name for result in results]
    suites: dict[str, dict[str, Any]] = {}
    for name, result in zip(names, results, strict=True):
        column = name if names.count(name) == 1 else result["run"]
        suites.setdefault(result["suite"], {})[column] = result
    for columns in suites.values():
        console.print(evaluation_table(columns))
        worst = {name: found["summary"]["cvar"] for name, found in columns.items() if "cvar" in found["summary"]}
        if worst:
            console.print(cvar_table(worst))


@command("compare")
def compare(
    runs: tuple[Path, ...],
    /,
    suite: str | None = None,
    deterministic: bool = False,
    any_steps: bool = False,
    evaluate: bool = False,
    output: Path | None = None,
    figures: Path | None = None,
    json: bool = False,
) -> None:
    """Methods side by side, with confidence intervals. Runs that differ in their seed alone are one method.

    Of each run's evaluations those are used that match: of the newest steps, then the most episodes, that all have.

    Args:
        runs: The runs' directories; the first one's method is the baseline.
        suite: The suite, by default the domain's first; run `clutr eval` on it first.
        deterministic: Compare evaluations of the most probable actions instead of sampled ones.
        any_steps: Compare each run's newest evaluation, though the runs have trained for different numbers of steps.
        evaluate: Evaluate runs first whose newest checkpoint has not been.
        output: Also write a self-contained HTML page with table and curves here.
        figures: Also write figures (PDF, SVG, PNG) and tables (LaTeX, Markdown, CSV) for papers into this directory.
        json: Print one JSON object for machines.
    """
    for path in runs:
        look_at_suite(path, suite)
    if output is not None:
        as_output(output, "Nothing was compared.")
    if figures is not None:
        require_writable(as_directory(figures), "Nothing was compared.")
    import clutr
    from clutr.experiments.display import console, say
    from clutr.experiments.evaluation.tables import comparison_table, cvar_table
    from clutr.experiments.reports.run_report import build_comparison

    options = {"deterministic": deterministic, "any_steps": any_steps}
    comparison = clutr.compare(runs, suite, evaluate=evaluate, progress=evaluate and not json, **options)
    if output is not None:
        build_comparison(comparison.to_json(), [clutr.load_run(path) for path in runs], output)
    if figures is not None:
        written = clutr.write_figures(comparison, figures, command=shlex.join(["clutr", *sys.argv[1:]]))
    if json:
        print(dumps(comparison.to_json()))
        return
    console.print(comparison_table(comparison))
    if comparison.cvar:
        console.print(cvar_table(comparison.cvar))
    if output is not None:
        say(f"open {output}")
    if figures is not None:
        say(f"{len(written)} files in {figures}; {figures / 'captions.md'} says what they show")
