"""What every registered manifold promises, over every registered domain."""

import pytest
import torch

from clutr.envs.domain import DOMAINS
from clutr.envs.maze.level import MazeLevels
from clutr.manifold.base import MANIFOLDS, Manifold

PAIRS = [(manifold, domain) for manifold in MANIFOLDS for domain in DOMAINS]


@pytest.fixture(params=PAIRS, ids=["-".join(pair) for pair in PAIRS])
def pair(request: pytest.FixtureRequest) -> tuple[Manifold, Manifold]:
    """Two untrained manifolds of one configuration and different seeds."""
    name, domain = request.param
    config = MANIFOLDS[name]()
    return config.build(DOMAINS[domain](), 1), config.build(DOMAINS[domain](), 2)


def latents(manifold: Manifold, n: int) -> torch.Tensor:
    low, high = manifold.bounds
    drawn = torch.rand(n, manifold.dim, generator=torch.Generator().manual_seed(0)) * (high - low) + low
    drawn[0], drawn[1], drawn[2] = low, high, 0.0  # the box's corners and centre
    return drawn


def test_every_latent_is_a_valid_level(pair: tuple[Manifold, Manifold]) -> None:
    levels = pair[0].decode(latents(pair[0], 100))
    assert len(levels) == 100
    if isinstance(levels, MazeLevels):
        levels.check()
    assert len(pair[0].decode(latents(pair[0], 3)[:0])) == 0


def test_decoding_is_deterministic_and_knows_no_company(pair: tuple[Manifold, Manifold]) -> None:
    manifold = pair[0]
    points = latents(manifold, 50)
    keys = manifold.decode(points).key()
    assert manifold.decode(points).key() == keys
    assert manifold.decode(points[40:41]).key() == keys[40:41]
    assert manifold.decode(points.flip(0)).key() == keys[::-1]


def test_codes_lie_in_the_box(pair: tuple[Manifold, Manifold]) -> None:
    manifold = pair[0]
    levels = manifold.decode(latents(manifold, 20))
    codes = manifold.encode(levels)
    low, high = manifold.bounds
    assert codes.shape == (20, manifold.dim)
    assert low <= codes.min() <= codes.max() <= high


def test_a_code_is_decoded_to_the_same_level_again_and_again(pair: tuple[Manifold, Manifold]) -> None:
    manifold = pair[0]
    codes = manifold.encode(manifold.decode(latents(manifold, 20)))
    assert torch.equal(codes, codes.float()), "latents cross the system in single precision"
    alone = [manifold.decode(code.unsqueeze(0)).key()[0] for code in codes[:5]]
    assert manifold.decode(codes).key()[:5] == alone


def test_a_state_makes_another_manifold_the_same(pair: tuple[Manifold, Manifold]) -> None:
    first, second = pair
    points = latents(first, 20)
    # what has no weights, as exact coordinates have none, is the same for every seed
    has_weights = bool(first.state_dict().get("network"))
    assert (second.decode(points).key() != first.decode(points).key()) == has_weights
    second.load_state_dict(first.state_dict())
    assert second.decode(points).key() == first.decode(points).key()
    assert second.health() == first.health()
