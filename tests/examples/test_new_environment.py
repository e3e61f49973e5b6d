import runpy
from dataclasses import replace
from pathlib import Path

import pytest

from clutr.curricula.accel import ACCELConfig
from clutr.curricula.clutr import CLUTRConfig
from clutr.envs.domain import DOMAINS
from clutr.experiments.evaluation.runs import evaluate_run
from clutr.experiments.reports.run_report import build_report
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.storage import RunError
from clutr.experiments.training.train import train
from clutr.manifold.set_vae import SetVAEConfig

EXAMPLE = Path(__file__).parents[2] / "examples" / "new_environment.py"


def test_a_domain_with_the_core_alone_trains_evaluates_and_reports(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(DOMAINS, "_entries", dict(DOMAINS._entries))
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    run = RunDirectory(Path("runs/corridor"))
    returns = run.metrics()["protagonist/mean_return"]
    assert f"mean return of each update: [{returns[0]:.2f} " in capsys.readouterr().out
    assert returns[-1] > returns[0] + 0.3
    assert evaluate_run(run, "random", episodes=20)["summary"]["mean_solved"] > 0.9
    assert build_report(run).stat().st_size > 10_000
    accel = RunDirectory.create(tmp_path / "accel", replace(run.experiment, curriculum=ACCELConfig()))
    with pytest.raises(RunError, match=r"ACCEL needs .* Mutation, but CorridorDomain has no mutate"):
        train(accel, tmp_path, print)
    clutr = replace(run.experiment, curriculum=CLUTRConfig(), manifold=SetVAEConfig(iterations=1))
    with pytest.raises(RunError, match=r"the set VAE needs .* Tokens, but CorridorDomain has no vocabulary"):
        train(RunDirectory.create(tmp_path / "clutr", clutr), tmp_path, print)
