"""The study of manifolds' health: its trainings go on where they were, and its table has every row."""

from pathlib import Path

import pytest
import torch

from clutr.envs.maze.domain import MazeDomain
from clutr.experiments.studies import manifold_health
from clutr.experiments.studies.manifold_health import table, train
from clutr.manifold.pretrain import NetworkPretraining
from clutr.manifold.set_vae import SetVAEConfig
from clutr.manifold.vae import VAEManifold

DOMAIN = MazeDomain(4, 4, 3)
CONFIG = SetVAEConfig(latent=4, hidden=8, refinements=1, iterations=6, batch_size=8)


def training() -> NetworkPretraining[VAEManifold]:
    return CONFIG.pretraining(CONFIG.build(DOMAIN, 1), DOMAIN, 1)


def test_a_row_goes_on_where_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifold_health, "SAVE_EVERY_SECONDS", -1.0)
    whole, first, second = training(), training(), training()
    assert train(whole, tmp_path / "whole") > 0
    step = first.step

    def step_or_stop() -> dict[str, torch.Tensor]:
        if first.iteration == 4:
            raise KeyboardInterrupt
        return step()

    monkeypatch.setattr(first, "step", step_or_stop)
    with pytest.raises(KeyboardInterrupt):
        train(first, tmp_path / "row")
    seconds = train(second, tmp_path / "row")
    assert second.iteration == 6
    assert seconds > 0
    expected, found = (each.manifold.state_dict()["network"] for each in (whole, second))
    assert all(torch.equal(expected[name], found[name]) for name in expected)


def test_the_table_leaves_out_what_a_manifold_does_not_have() -> None:
    uniform = {"agreement": 0.5, "returns": 0.25, "validity": 1.0, "coverage": 0.125}
    recovery = {"set_recall": 0.9, "set_precision": 0.8, "task_exact": 0.7}
    health = {"recovery": recovery, "prior_uniform": uniform, "smoothness": {"rank_correlation": None}}
    road = {"config": {}, "pretraining_seconds": 1.6, "dim": 3, "health": health}
    of_25 = {"tail_exact": 0.99, "set_recall": 0.6, "set_precision": 0.5, "task_exact": 0.1}
    maze = road | {"config": {"iterations": 7}, "health": health | {"recovery_at_25": of_25}}
    lines = table({"maze-x": maze, "car-x": road}).splitlines()
    assert lines[2] == "| car-x |  | 2 | 3 |  | 0.900 | 0.800 | 0.700 | 0.500 | 0.250 | 1.000 | 0.125 |  |"
    assert lines[3] == "| maze-x | 7 | 2 | 3 | 0.990 | 0.600 | 0.500 | 0.700 | 0.500 | 0.250 | 1.000 | 0.125 |  |"
