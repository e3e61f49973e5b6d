"""A config.yaml that was changed under a run: what still fits goes on, the rest is one error that names the field."""

from collections.abc import Callable
from pathlib import Path

import pytest

import clutr
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.training.lookup import override


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("changed") / "run"
    clutr.train("maze-random-latent-debug", run=path, total_steps=8 * 32 * 2, evaluate_every=0)
    return path


def _edited(path: Path, right: str, wrong: str) -> RunDirectory:
    """The run with another config.yaml, as a run of its own."""
    config = path / "config.yaml"
    original = config.read_text()
    assert right in original
    config.write_text(original.replace(right, wrong))
    run = RunDirectory(path)
    assert run.experiment
    config.write_text(original)
    return run


ACTIONS: list[Callable[[RunDirectory], object]] = [clutr.resume, lambda run: clutr.evaluate(run, "small", 1)]


@pytest.mark.parametrize("act", ACTIONS, ids=["resume", "eval"])
@pytest.mark.parametrize(
    ("right", "wrong", "said"),
    [
        ("hidden: 16\n  head", "hidden: 24\n  head", r"student\.hidden \(16, now 24\)"),
        ("view: 5", "view: 7", r"domain\.view \(5, now 7\)"),
        ("max_steps: 20", "max_steps: 25", r"domain\.max_steps \(20, now 25\)"),
        ("\nseed: 1", "\nseed: 7", r"seed \(1, now 7\)"),
        ("manifold_seed: 1", "manifold_seed: 2", r"manifold_seed \(1, now 2\)"),
        ("kind: ppo", "kind: sb3-ppo", r"student \(ppo, now sb3-ppo\)"),
    ],
)
def test_what_does_not_fit_is_named(
    act: Callable[[RunDirectory], object], right: str, wrong: str, said: str, trained: Path
) -> None:
    if "sb3" in wrong:
        run = RunDirectory(trained)
        run.__dict__["experiment"] = override(run.experiment, student="sb3-ppo")
    else:
        run = _edited(trained, right, wrong)
    with pytest.raises(RunError, match=rf"update-000002\.safetensors does not fit .*config\.yaml.*: {said}\. Put"):
        act(run)


def test_another_curriculum_or_manifold_is_named(trained: Path) -> None:
    run = _edited(trained, "curriculum:\n  kind: random-latent", "curriculum:\n  kind: dr")
    with pytest.raises(RunError, match=r"curriculum \(random-latent, now dr\)"):
        clutr.resume(run)
    run = _edited(trained, "iterations: ", "iterations: 1")
    with pytest.raises(RunError, match=r"manifold\.iterations \((\d+), now 1\1\)"):
        clutr.resume(run)
    run = _edited(trained, "latent: 16", "latent: 8")
    with pytest.raises(RunError, match=r"manifold\.safetensors does not fit the options `domain` and `manifold`"):
        clutr.resume(run)


def test_a_suite_that_is_none_is_named_before_anything_is_pretrained(trained: Path) -> None:
    run = _edited(trained, "evaluate_every: 0\nevaluate_suite: random", "evaluate_every: 1\nevaluate_suite: moon")
    with pytest.raises(RunError, match=r"config\.yaml: evaluate_suite: no suite is called 'moon'; there are: .*small"):
        clutr.resume(run)


def test_what_fits_goes_on_and_is_said_once(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = _edited(trained, "num_envs: 8\ntotal_steps: 512", "num_envs: 4\ntotal_steps: 640")
    assert clutr.resume(run, progress=True).metrics()["steps"][-1] == 640
    said = "config.yaml was changed since update 2, and holds from here on: num_envs (8, now 4)\n"
    assert said in capsys.readouterr().out
    run.__dict__["experiment"] = override(run.experiment, total_steps=704)
    clutr.resume(run, progress=True)
    assert "was changed" not in capsys.readouterr().out
