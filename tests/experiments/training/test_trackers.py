"""Trackers get what metrics.csv gets, go on where they were, and never end a training."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import clutr
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.training.presets import PRESETS
from clutr.experiments.training.runner import UpdateReport
from clutr.experiments.training.trackers import MLflowTracker, WandbTracker, place, trackers_of

EXPERIMENT = replace(PRESETS["maze-dr-debug"], evaluate_every=0, total_steps=512)


def reports() -> list[UpdateReport]:
    return [UpdateReport(n, 100 * n, 300, {"solved": n / 4, "levels/walls": 3.0}, 1.5 * n) for n in (1, 2)]


class Listener:
    def __init__(self, fails_at: int | None = None) -> None:
        self.heard: list[Any] = []
        self._fails_at = fails_at

    def begin(self, run: RunDirectory) -> None:
        self.heard.append(run.path.name)

    def update(self, report: UpdateReport) -> None:
        self.heard.append((report.steps, report.metrics["protagonist/mean_return"]))
        if report.update == self._fails_at:
            raise ConnectionError("the server is gone")

    def end(self, finished: bool) -> None:
        self.heard.append(finished)


def test_a_tracker_hears_every_update_and_one_that_fails_is_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    good, bad = Listener(), Listener(fails_at=1)
    run = clutr.train(EXPERIMENT, run=tmp_path / "run", progress=True, trackers=[good, bad])
    columns = run.metrics()
    returns = zip(columns["steps"].tolist(), columns["protagonist/mean_return"].tolist(), strict=True)
    assert good.heard == ["run", *returns, True]
    assert len(bad.heard) == 2
    said = capsys.readouterr().out
    assert said.count("Listener is left out from here on: the server is gone") == 1
    with pytest.raises(clutr.RunError, match=r"no tracker is called 'wandbb'; did you mean wandb\?"):
        trackers_of(["wandbb"])


def test_mlflow_keeps_metrics_and_options_and_goes_on_in_the_same_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", (tmp_path / "store").as_uri())
    run = RunDirectory.create(tmp_path / "dr-s1", EXPERIMENT)
    for report, finished in zip(reports(), (False, True), strict=True):
        tracker = MLflowTracker()
        tracker.begin(run)
        tracker.update(report)
        tracker.end(finished)
    client = mlflow.MlflowClient()
    name = place(run, "mlflow")
    kept = client.get_run(name)
    assert (kept.info.run_name, kept.info.status) == ("dr-s1", "FINISHED")
    assert kept.data.params["curriculum.kind"] == "dr"
    assert [(m.step, m.value) for m in client.get_metric_history(name, "solved")] == [(100, 0.25), (200, 0.5)]
    assert len(client.search_runs([kept.info.experiment_id])) == 1


def test_wandb_offline_keeps_metrics_and_goes_on_under_the_same_id(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    run = RunDirectory.create(tmp_path / "dr-s1", EXPERIMENT)
    for report, finished in zip(reports(), (False, True), strict=True):
        tracker = WandbTracker()
        tracker.begin(run)
        tracker.update(report)
        tracker.end(finished)
        assert place(run, "wandb") == tracker._run.id
        *_, kept = sorted((run.path / "wandb").glob("offline-run-*"), key=lambda path: path.stat().st_mtime_ns)
        content, waited = b"", 0
        while b"levels/walls" not in content and waited < 200:  # it is written by a process of its own
            time.sleep(0.1)
            content, waited = (kept / f"run-{place(run, 'wandb')}.wandb").read_bytes(), waited + 1
        assert b"levels/walls" in content
    assert b"rollout_steps" in content, "the options are there"


def test_a_damaged_memory_of_places_is_as_none(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path, EXPERIMENT)
    for text in ("", "[]", "{", json.dumps({"wandb": 3})):
        (run.path / "tracking.json").write_text(text)
        assert place(run, "wandb") is None
