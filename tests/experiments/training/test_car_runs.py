"""The second domain through the same commands: trained, evaluated, compared and shown."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from clutr.agents.pixel_ppo import PixelPPOConfig
from clutr.curricula.random import RandomLatentsConfig
from clutr.envs.car.domain import CarDomain
from clutr.envs.car.engine import CarEngine
from clutr.envs.car.road.level import BezierLevels
from clutr.experiments.cli.main import main
from clutr.experiments.config import Experiment
from clutr.experiments.evaluation.runs import evaluate_run
from clutr.experiments.evaluation.selection import own_evaluations
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.training.train import train
from clutr.manifold.set_vae import SetVAEConfig

SUITE = "bezier-small"
EXPERIMENT = Experiment(
    domain=CarDomain(max_frames=48),
    curriculum=RandomLatentsConfig(),
    student=PixelPPOConfig(rollout_steps=6, torso="light", head=8, epochs=1, minibatches=2),
    manifold=SetVAEConfig(iterations=5, batch_size=32, refinements=1, hidden=16, latent=8),
    num_envs=2,
    total_steps=2 * 6 * 2,
    evaluate_every=2,
    evaluate_suite=SUITE,
    evaluate_episodes=1,
    checkpoint_every=2,
    record_every=1,
)


@pytest.fixture(scope="module", autouse=True)
def _short_drives() -> Iterator[None]:
    """Drives of the suite end after 160 frames instead of 1,000: nobody here gets far."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("clutr.envs.car.suites.CarEngine", partial(CarEngine, max_frames=160))
        yield


@pytest.fixture(scope="module")
def room(_short_drives: None, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two trained and evaluated runs of one method, a and b."""
    room = tmp_path_factory.mktemp("cars")
    for seed, name in enumerate(("a", "b"), 1):
        run = RunDirectory.create(room / name, replace(EXPERIMENT, seed=seed))
        assert train(run, room / "manifolds", lambda _: None)
        evaluate_run(run, SUITE, 2)
    return room


def test_training_measures_both_returns_and_solve_rates(room: Path) -> None:
    columns = RunDirectory(room / "a").metrics()
    assert columns[f"evaluation/{SUITE}/mean_solved"][-1] == 0
    levels = [columns[f"evaluation/{SUITE}/Bezier0{number}"][-1] for number in range(1, 6)]
    assert columns[f"evaluation/{SUITE}/mean_return"][-1] == pytest.approx(sum(levels) / 5)
    assert min(levels) != max(levels), "returns, not solve rates"


def test_an_evaluation_keeps_ways_and_films(room: Path) -> None:
    run = RunDirectory(room / "a")
    recordings = run.recordings(own_evaluations(run, SUITE))
    assert [entry["level"] for entry in recordings] == [f"Bezier0{number}" for number in range(1, 6)]
    for entry in recordings:
        assert isinstance(entry["levels"], BezierLevels)
        assert entry["positions"].shape == (2, entry["positions"].shape[1], 4)
        assert entry["positions"][:, :2].isfinite().all()
    assert len(run.videos(own_evaluations(run, SUITE))) == 2
    for video in run.videos(own_evaluations(run, SUITE)):
        assert video["frames"].dtype == torch.uint8
        assert video["frames"].shape[1:] == (96, 96, 3)
    row = own_evaluations(run, SUITE)[-1].result["levels"][0]
    assert row["return_mean"] == pytest.approx(sum(row["returns"]) / 2)


def test_the_table_of_an_evaluation_tells_returns(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["eval", str(room / "a"), "--suite", SUITE, "--episodes", "2"]) == 0
    printed = " ".join(capsys.readouterr().out.split())
    assert f"mean return on {SUITE}, zero-shot" in printed
    assert re.search(r"Bezier03 │ -?\d+ ± \d+ │", printed)
    assert "solved │ 0.0% │" in printed


def test_runs_are_compared_by_returns(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = room / "compare.html"
    assert main(["compare", str(room / "a"), str(room / "b"), "--suite", SUITE, "--output", str(page)]) == 0
    assert f"Mean return on {SUITE}, 2 episodes a level and run" in " ".join(capsys.readouterr().out.split())
    assert "Mean over levels" in page.read_text()
    assert main(["compare", str(room / "a"), str(room / "b"), "--suite", SUITE, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metric"] == "return"
    assert found["methods"][0]["runs"] == [str(room / "a"), str(room / "b")]
    assert "interval" in found["methods"][0]["iqm_return"]


def test_the_report_has_maps_films_and_tables_of_returns(room: Path) -> None:
    assert main(["report", str(room / "a"), "--beside", str(room / "b")]) == 0
    html = (room / "a" / "report.html").read_text()
    for panel in ("transfer", "paths", "videos", "curves", "curriculum", "latents", "manifold"):
        assert f'id="{panel}"' in html, panel
    assert html.count("path of the student on Bezier") == 5
    assert "units/s" in html
    assert html.count("data:image/webp;base64,") == 2
    assert f"Zero-shot return, {SUITE}" in html
    assert "Length of the road" in html
    assert "goal and agent" not in html
    assert len(html) < 6_000_000


def test_circuits_come_from_a_directory_or_it_says_what_is_wrong(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "at-1969.geojson").write_text("{}")
    assert main(["eval", str(room / "a"), "--suite", "f1", "--tracks", str(tmp_path)]) == 2
    assert "lacks 19 of 20 circuits: au-1953.geojson," in capsys.readouterr().err
    assert main(["eval", str(room / "a"), "--suite", "f2"]) == 2
    assert "no suite is called 'f2'; there are: bezier-heldout, bezier-small, f1" in capsys.readouterr().err
