"""The commands of `clutr world`."""

from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import replace
from json import dumps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clutr.experiments.cli.arguments import Arguments, UsageError, choose, command, first_line, is_asked, run, take
from clutr.experiments.cli.names import presets, registered

if TYPE_CHECKING:
    from clutr.envs.progress import Progress
    from clutr.experiments.reports.dream_report import DreamOptions
    from clutr.experiments.world_model.config import WorldModelExperiment
    from clutr.experiments.world_model.control import ControlOptions
    from clutr.experiments.world_model.dream_training import DreamTrainOptions
    from clutr.experiments.world_model.probing import ProbeOptions
    from clutr.experiments.world_model.run_directory import WorldModelRun

WORLD = Path("runs") / "world"


def world(args: Arguments) -> None:
    """World models of what students see: record episodes, train, dream, report what dreams are worth, and probe."""
    part = choose("part", PARTS, lambda name: first_line(PARTS[name]), "world", args)
    rest = list(args[1:])
    if rest and not rest[0].startswith("-"):  # `clutr world train runs/world`, as `clutr eval runs/maze`
        rest.insert(0, "--run")
    if part not in ("record", "refit") and not is_asked() and not {"-h", "--help"} & set(rest):
        from clutr.experiments.directories import look_at_world_model

        named, _ = take("run", rest)
        if named != "":
            look_at_world_model(named or WORLD)
    PARTS[part](rest)


def opened(path: Path) -> "WorldModelRun":
    """A world model by its directory, or by the name of one that ships."""
    from clutr.experiments.display import work_display
    from clutr.experiments.world_model.run_directory import open_world_model

    return open_world_model(path, work_display)


def directory_of(path: Path) -> Path:
    """The directory of a run or a world model; the name of a model that ships is unpacked, ready to be inspected."""
    from clutr.experiments.pretrained import is_name, located

    found = located(path)
    return opened(path).path if is_name(path) and (found / "world.yaml").is_file() else found


def _record(args: Arguments) -> None:
    """Begin a world model and record its episodes, from wherever an earlier recording stopped."""
    chosen, rest = take("preset", args)
    preset, known = "car" if chosen is None else chosen, presets("world-presets")
    choose("preset", known, known.__getitem__, "world record --preset", [preset])
    backbone, rest = take("backbone", rest)
    core, rest = take("core", rest)
    for part, name in (("backbone", backbone), ("core", core)):
        if name is not None:
            parts = registered(f"{part}s")
            choose(part, parts, parts.__getitem__, f"world record --{part}", [name])
    continued, _ = take("continues", rest)
    if continued:
        from clutr.experiments.directories import look_at_world_model

        look_at_world_model(Path(continued))

    from clutr.experiments.display import console, say, work_display
    from clutr.experiments.world_model import run_directory
    from clutr.experiments.world_model.config import WORLD_PRESETS
    from clutr.experiments.world_model.continuing import previous
    from clutr.world_model.backbones.base import BACKBONES
    from clutr.world_model.cores.base import CORES

    default = WORLD_PRESETS[preset]
    if continued:
        old = run_directory.WorldModelRun(continued).experiment
        default = replace(default, backbone=old.backbone, memory=old.memory)
    if backbone is not None:
        chosen_backbone: Any = BACKBONES[backbone]()
        memory = replace(default.memory, classes=getattr(chosen_backbone, "classes", 0))
        default = replace(default, backbone=chosen_backbone, memory=memory)
    if core is not None:
        default = replace(default, memory=replace(default.memory, core=CORES[core]()))

    def record(options: "WorldModelExperiment", run: Path = WORLD) -> None:
        previous(options)
        size, free = (0, 0) if options.recording else run_directory.require_space(run, options)
        made = run_directory.WorldModelRun.create(run, options)
        if not options.recording:
            say(f"the recording takes up to {size / 1e9:.2g} GB in {made.dataset_path}; {free / 1e9:.3g} GB are free")
        with work_display("recording") as progress:
            found = run_directory.record(made, progress)
        console.print(run_directory.dataset_table(found))
        say(f"kept as {made.dataset_path}; `clutr world train {run}` goes on")

    record.__doc__ = f"""{first_line(_record)} --preset chooses the defaults: {", ".join(WORLD_PRESETS)}.
    --backbone and --core put other parts in their place: `clutr list backbones`, `clutr list cores`. With --continues
    backbone and memory are those of the world model that is trained on.

    Args:
        run: The world model's directory.
    """
    run("world record", record, rest, options=default)


def _refit(args: Arguments) -> None:
    """Fit the VAE of a trained world model anew, in another directory, so that its memory goes on working."""
    source, rest = take("from", args)
    if source == "":
        raise UsageError("--from wants the directory of a trained world model (`clutr world refit --help` tells more)")
    is_help = is_asked() or {"-h", "--help"} & set(rest)
    if not is_help:
        from clutr.experiments.directories import look_at_world_model

        look_at_world_model(source or WORLD)

    from clutr.experiments.world_model.config import WORLD_PRESETS
    from clutr.experiments.world_model.refit import refit_of, require_fit
    from clutr.experiments.world_model.run_directory import WorldModelRun

    other = None if is_help else WorldModelRun(source or WORLD)
    default = WORLD_PRESETS["car"] if other is None else refit_of(other)

    def refit(options: "WorldModelExperiment", *, run: Path, device: str = "cpu", threads: int | None = None) -> None:
        if other is not None:
            require_fit(options, other)
        WorldModelRun.create(run, options)
        _train_parts(run, device, threads)

    refit.__doc__ = f"""{first_line(_refit)}

    --from names it ({WORLD} if absent). All options and the recording are its own unless they are given: the new VAE
    may be wider, be fitted longer, or on another recording, but has as many latents.

    Args:
        run: The directory of the new world model.
        device: Where networks are trained: cpu, cuda, or a GPU by its number such as cuda:1.
        threads: Processor threads; by default one a core.
    """
    run("world refit", refit, rest, options=default)


@command("world train")
def _train(run: Path = WORLD, device: str = "cpu", threads: int | None = None) -> None:
    """Train a world model on its recording, from wherever an earlier training stopped.

    Args:
        run: The world model's directory.
        device: Where networks are trained: cpu, cuda, or a GPU by its number such as cuda:1.
        threads: Processor threads; by default one a core.
    """
    _train_parts(run, device, threads)


def _train_parts(run: Path, device: str, threads: int | None) -> None:
    from clutr.experiments.display import say, work_display
    from clutr.experiments.files import require_writable
    from clutr.experiments.pretrained import unpacked
    from clutr.experiments.storage import RunError
    from clutr.experiments.training.threads import use_threads
    from clutr.experiments.world_model.agreement import agreement
    from clutr.experiments.world_model.run_directory import WorldModelRun
    from clutr.experiments.world_model.training import fit_backbone, in_words, train_memories, world_device
    from clutr.experiments.world_model.training_log import training_log

    if threads is not None:
        use_threads(threads)
    made = WorldModelRun(run)
    if (shipped := unpacked(made.path)) is not None:
        raise RunError(f"{shipped.name} is a model that ships, and is trained: `clutr world record` begins one's own")
    require_writable(made.path, "Nothing was trained.")
    world_device(device)
    dataset = made.dataset()
    with training_log(made.path, say) as log, ExitStack() as shown:
        with work_display("fitting the backbone") as progress:
            backbone = fit_backbone(made, dataset, progress, device=device, log=log)

        def display(memory: str) -> "Progress":
            shown.close()
            return shown.enter_context(work_display(f"training the memory: {memory}"))

        found = train_memories(made, dataset, backbone, display, device=device, log=log)
    if made.experiment.refit.of:
        kept = agreement(made)
        say("the memory is kept" if kept is None else kept.in_words())
    else:
        for name, convergence in found.items():
            say(f"{name}: {in_words(convergence)}")
    say(f"losses are in {made.path / 'metrics.csv'}; `clutr world report {run}` shows what dreams are worth")


@command("world dream", "clutr.experiments.reports.dream_report:DreamOptions")
def _dream(options: "DreamOptions", run: Path = WORLD) -> None:
    """Dream on from a recorded step, in several branches, and write a page to step through.

    Args:
        options: What is dreamt.
        run: The world model's directory, or the name of one that ships.
    """
    from clutr.experiments.display import say
    from clutr.experiments.reports.dream_report import dream_on

    say(f"open {dream_on(opened(run), options)}")


@command("world dream-train", "clutr.experiments.world_model.dream_training:DreamTrainOptions")
def _dream_train(options: "DreamTrainOptions", run: Path = WORLD) -> None:
    """Train a student in the dream only, and test it in the environment beside one that was trained there.

    Args:
        options: How both are trained and tested.
        run: The world model's directory, or the name of one that ships.
    """
    from clutr.experiments.display import console, say, work_display
    from clutr.experiments.world_model.dream_training import DreamTraining, in_words, result_table

    training = DreamTraining(opened(run), options)
    with ExitStack() as shown:

        def display(place: str) -> "Progress":
            shown.close()
            return shown.enter_context(work_display(f"training in the {place}"))

        found = training.run(display)
    console.print(result_table(found))
    say(f"{in_words(found)}; the numbers are in {training.path}")


@command("world control", "clutr.experiments.world_model.control:ControlOptions")
def _control(options: "ControlOptions", run: Path = WORLD, *, json: bool = False) -> None:
    """Let a small controller drive the unmodified CarRacing-v3 by a world model's eyes, after imitating an expert.

    Args:
        options: How it learns and is tested.
        run: The world model's directory, or the name of one that ships.
        json: Print one JSON object.
    """
    from clutr.experiments.display import console, say, work_display
    from clutr.experiments.world_model.control import Control, control_table, result
    from clutr.experiments.world_model.run_directory import open_world_model

    def silent(_: str) -> "AbstractContextManager[Progress]":
        return nullcontext(lambda *_: None)

    displayed = silent if json else work_display
    control = Control(open_world_model(run, displayed), options)
    with ExitStack() as shown:

        def display(title: str) -> "Progress":
            shown.close()
            return shown.enter_context(displayed(title))

        control.controller(display)
        control.test(display("driving the roads of the test"))
    found = result(control)
    if json:
        print(dumps(found))
        return
    console.print(control_table(found))
    say(f"the controller and the numbers are in {control.path.parent}")


@command("world report")
def _report(run: Path = WORLD) -> None:
    """Measure dreams on episodes that nobody trained on, and write one self-contained HTML file.

    Args:
        run: The world model's directory, or the name of one that ships.
    """
    from clutr.experiments.display import say
    from clutr.experiments.reports.world_model_report import build_world_model_report

    path = build_world_model_report(made := opened(run))
    say(f"open {path}; the numbers are in {made.path / 'dreams.json'}")


@command("world probe", "clutr.experiments.world_model.probing:ProbeOptions")
def _probe(options: "ProbeOptions", run: Path = WORLD) -> None:
    """Probe what a world model has learnt, each explanation with its checks, and write one self-contained HTML file.

    Args:
        options: What is probed.
        run: The world model's directory.
    """
    from clutr.experiments.display import console, say, work_display
    from clutr.experiments.reports.probe_report import build_probe_page, probe_world_model, sanity_check_table

    made = opened(run)
    if made.experiment.memory.classes:
        raise UsageError(f"{run} has categorical latents: probes explain predictions by mixtures of Gaussians only")
    with ExitStack() as shown:

        def section(name: str) -> "Progress":
            shown.close()
            return shown.enter_context(work_display(f"probing: {name}"))

        probe_world_model(made, options, section)
    path = build_probe_page(made)
    console.print(sanity_check_table(made))
    say(f"open {path}; the numbers are in {made.path / 'probes'}")


PARTS = {
    "record": _record,
    "train": _train,
    "refit": _refit,
    "dream": _dream,
    "dream-train": _dream_train,
    "control": _control,
    "report": _report,
    "probe": _probe,
}
"""The parts of `clutr world`."""
