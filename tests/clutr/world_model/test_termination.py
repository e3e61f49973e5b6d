"""Ends foretold: by one who reads them off the actions, by one who says the opposite, and where there are none."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from clutr.world_model.cores.lstm_gru import GRUConfig
from clutr.world_model.dream import Dream, Dreamer, LatentState
from clutr.world_model.evaluation import predict_terminations
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.memory import MemoryConfig
from clutr.world_model.training import scale_of


def episode(length: int, ended: bool) -> LatentEpisode:
    rng = torch.Generator().manual_seed(length)
    mean, actions, ends = torch.randn(length + 1, 2, generator=rng), torch.zeros(length, 1), torch.zeros(length)
    if ended:
        actions[-1] = ends[-1] = 1.0
    return LatentEpisode(mean, torch.full_like(mean, -9.0), actions, torch.zeros(length), ends)


EPISODES = [episode(20, ended=True), episode(21, ended=True), episode(22, ended=False), episode(6, ended=True)]


class Reader(Dreamer):
    """Holds that an action ends the episode if it is marked, or only if it is not."""

    def __init__(self, sign: float) -> None:
        super().__init__(MemoryConfig(core=GRUConfig(width=4)).build(2, 1, seed=1), scale_of(EPISODES))
        self.sign, self.horizons = sign, set[int]()

    def dream(self, moment: LatentState, actions: Tensor, horizon: int) -> Dream:  # type: ignore[override]
        assert len(actions) == horizon
        self.horizons.add(horizon)
        nothing = moment.latent.expand(horizon, -1, -1)
        return Dream(nothing, nothing[..., 0], 0.5 + self.sign * (actions[..., 0] - 0.5), nothing)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_dream_of_the_last_moments_is_asked(sign: float) -> None:
    reader = Reader(sign)
    found = predict_terminations(EPISODES, reader, (1, 5))
    assert found == {"ends": 3, "auroc": {"1": (1 + sign) / 2, "5": (1 + sign) / 2}}
    assert reader.horizons == {1, 5}


def test_an_untrained_memory_knows_nothing_for_sure() -> None:
    memory = MemoryConfig(core=GRUConfig(width=4)).build(2, 1, seed=1)
    many = [episode(8 + n, ended=n % 2 == 0) for n in range(40)]
    many = [replace(each, actions=torch.zeros_like(each.actions)) for each in many]
    area = predict_terminations(many, Dreamer(memory, scale_of(many)), (1,))["auroc"]["1"]
    assert 0.3 < area < 0.7


def test_without_ends_there_is_nothing_to_tell() -> None:
    assert predict_terminations([episode(9, ended=False)], Reader(1.0)) == {
        "ends": 0,
        "auroc": {"1": None, "5": None, "10": None},
    }
