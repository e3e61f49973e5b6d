"""The torsos: what they see, and that the fast form of the convolution is the convolution."""

import gymnasium
import pytest
import torch
from torch import nn

from clutr.agents.networks import ActorCritic, ConvTorso, SymbolTorso
from clutr.envs.maze.domain import MazeDomain


def observation(batch: int = 6) -> dict[str, torch.Tensor]:
    domain = MazeDomain()
    rng = torch.Generator().manual_seed(0)
    return domain.engine(batch).reset(domain.sample(batch, rng))


def test_conv_torso_is_a_convolution() -> None:
    torso = ConvTorso(5, torch.Generator().manual_seed(0))
    seen = observation()
    convolution = nn.Conv2d(3, 16, 3)
    with torch.no_grad():
        # ours reads a window row by row, each cell's three symbols together
        convolution.weight.copy_(torso.convolution.weight.view(16, 3, 3, 3).permute(0, 3, 1, 2))
        convolution.bias.copy_(torso.convolution.bias)  # type: ignore[union-attr]
        expected = convolution(seen["image"].float().permute(0, 3, 1, 2) / 10).relu()
        ours = torso(torso.prepare(seen))
    torch.testing.assert_close(ours[:, :144].view(6, 9, 16), expected.flatten(2).transpose(1, 2))
    heading = torso.heading.weight[:, seen["direction"]].T + torso.heading.bias
    torch.testing.assert_close(ours[:, 144:], heading)
    assert torso.width == 149


def test_conv_torso_starts_like_a_xavier_convolution() -> None:
    torso = ConvTorso(5, torch.Generator().manual_seed(0))
    reference = nn.init.xavier_uniform_(torch.empty(16, 3, 3, 3), generator=torch.Generator().manual_seed(0))
    bound = (6 / (3 * 9 + 16 * 9)) ** 0.5
    for weight in (reference, torso.convolution.weight):
        assert 0.95 * bound < weight.abs().max() <= bound
    assert not torso.convolution.bias.any()


def test_symbol_torso_tells_symbols_and_headings_apart() -> None:
    torso = SymbolTorso(5, 16, torch.Generator().manual_seed(0))
    image = torch.zeros(2, 5, 5, 3, dtype=torch.uint8)
    image[:, :, :, 0] = 1
    image[1, 2, 3, 0] = 8
    prepared = torso.prepare({"image": image, "direction": torch.tensor([0, 3])})
    assert prepared.sum(1).tolist() == [26, 26]  # one mark a cell and one for the heading
    difference = (prepared[0] != prepared[1]).nonzero().flatten().tolist()
    cell = (2 * 5 + 3) * 11
    assert difference == [cell + 1, cell + 8, 275 + 0, 275 + 3]


def test_sequences_have_any_leading_shape() -> None:
    engine = MazeDomain().engine(1)
    network = ActorCritic(
        engine.observation_space, 7, "conv", 64, hidden=8, head=4, rng=torch.Generator().manual_seed(0)
    )
    seen = {name: value.unflatten(0, (2, 3)) for name, value in observation().items()}
    episode_starts = torch.zeros(2, 3, dtype=torch.bool)
    policy, values = network(network.prepare(seen, episode_starts), episode_starts)
    assert policy.log_probs.shape == (2, 3, 7)
    assert values.shape == (2, 3)
    torch.testing.assert_close(policy.log_probs.exp().sum(-1), torch.ones(2, 3))


def test_foreign_observations_are_refused() -> None:
    space = gymnasium.spaces.Dict({"pixels": gymnasium.spaces.Box(0, 1, (3,))})
    with pytest.raises(ValueError, match="sees `image` and `direction` of a maze"):
        ActorCritic(space, 7, "conv", 64, 8, 4, torch.Generator())
