"""Termination prediction: read off the actions, its opposite, and without any termination."""

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


def episode(length: int, terminates: bool) -> LatentEpisode:
    rng = torch.Generator().manual_seed(length)
    mean, actions, terminated = torch.randn(length + 1, 2, generator=rng), torch.zeros(length, 1), torch.zeros(length)
    if terminates:
        actions[-1] = terminated[-1] = 1.0
    return LatentEpisode(mean, torch.full_like(mean, -9.0), actions, torch.zeros(length), terminated)


EPISODES = [
    episode(20, terminates=True),
    episode(21, terminates=True),
    episode(22, terminates=False),
    episode(6, terminates=True),
]


class Reader(Dreamer):
    """Holds that an action ends the episode if it is marked, or only if it is not."""

    def __init__(self, sign: float) -> None:
        super().__init__(MemoryConfig(core=GRUConfig(width=4)).build(2, 1, seed=1), scale_of(EPISODES))
        self.sign, self.horizons = sign, set[int]()

    def dream(self, latent_state: LatentState, actions: Tensor, horizon: int) -> Dream:  # type: ignore[override]
        assert len(actions) == horizon
        self.horizons.add(horizon)
        nothing = latent_state.latent.expand(horizon, -1, -1)
        return Dream(nothing, nothing[..., 0], 0.5 + self.sign * (actions[..., 0] - 0.5), nothing)


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_the_last_steps_are_dreamt(sign: float) -> None:
    reader = Reader(sign)
    found = predict_terminations(EPISODES, reader, (1, 5))
    assert found == {"terminations": 3, "auroc": {"1": (1 + sign) / 2, "5": (1 + sign) / 2}}
    assert reader.horizons == {1, 5}


def test_an_untrained_memory_knows_nothing_for_sure() -> None:
    memory = MemoryConfig(core=GRUConfig(width=4)).build(2, 1, seed=1)
    many = [episode(8 + n, terminates=n % 2 == 0) for n in range(40)]
    many = [replace(each, actions=torch.zeros_like(each.actions)) for each in many]
    area = predict_terminations(many, Dreamer(memory, scale_of(many)), (1,))["auroc"]["1"]
    assert 0.3 < area < 0.7


def test_without_terminations_there_is_no_auroc() -> None:
    assert predict_terminations([episode(9, terminates=False)], Reader(1.0)) == {
        "terminations": 0,
        "auroc": {"1": None, "5": None, "10": None},
    }
