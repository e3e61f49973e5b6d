"""The study of generative replay at debug size: every arm is trained on as long, measured once, and told."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from worlds import made

from clutr.experiments.storage import RunError
from clutr.experiments.studies import generative_replay
from clutr.experiments.studies.generative_replay import ARMS, Recorded, errors, main, windows_of
from clutr.world_model.evaluation import cut_windows
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.memory import Scale


def ramp(steps: int) -> LatentEpisode:
    """A latent that grows by one a step."""
    mean = torch.arange(steps + 1.0)[:, None]
    nothing = torch.zeros(steps)
    return LatentEpisode(mean, torch.zeros_like(mean), nothing[:, None], nothing, nothing)


def test_errors_are_those_of_windows_from_several_places_of_each_episode() -> None:
    windows = windows_of([ramp(100), ramp(40)], context=5, horizon=30)
    assert [each.starts for each in windows] == [[(60 + 1 - 35) // 2], [(100 + 1 - 35) // 2, (40 + 1 - 35) // 2]]
    scale = Scale(torch.zeros(1), torch.ones(1), torch.tensor([2.0]), 1.0)
    assert errors(windows, None, 5, scale) == [0.5, 5.0, 12.5], "copied, it is off by a step's growth each step"
    assert cut_windows([ramp(100)], 5, 30, 1).starts == [33]


def test_recorded_episodes_are_replayed_until_there_are_enough() -> None:
    found = Recorded([ramp(3), ramp(5)], 0.5).episodes(17, 4, torch.Generator().manual_seed(1))
    assert sorted(map(len, found)) == [3, 3, 3, 5, 5, 5]


def test_arms_are_measured_once_and_told(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(generative_replay, "HORIZONS", (1,))  # experts soon leave these mazes
    world = str(made("maze-debug", tmp_path_factory).path)
    arguments = [world, str(tmp_path / "out.json"), "--passes", "1", "--seeds", "3", "--old", "walk", "--new", "expert"]
    main(arguments)
    found: dict[str, Any] = json.loads((tmp_path / "out.json").read_text())
    row = found["seeds"]["3"]
    assert set(row["steps"]) == set(ARMS)
    assert max(row["steps"].values()) < 1.5 * min(row["steps"].values()), "as many, but for whole passes"
    for kind in ("old", "new"):
        assert set(row["nll"][kind]) == set(ARMS)
        assert set(row["nrmse"][kind]) == {*ARMS, "copy last"}
        assert len({tuple(row["nrmse"][kind][arm]) for arm in ARMS}) == len(ARMS), "each is another memory"
    row["nll"]["old"]["without replay"] = 0.123
    (tmp_path / "out.json").write_text(json.dumps(found))
    main(arguments)
    assert json.loads((tmp_path / "out.json").read_text())["seeds"]["3"] == row
    assert "| without replay | 0.12 |" in (tmp_path / "out.md").read_text()
    with pytest.raises(RunError, match=r"has seeds of the budget .*'passes': 1.*: name another file"):
        main(arguments[:2])
    with pytest.raises(RunError, match="holds no training episodes of 'quilt'"):
        main([world, str(tmp_path / "other.json"), "--old", "quilt"])
