"""The surrogate's likelihood against its definition, episode by episode, and what the curriculum makes of it."""

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Bernoulli, Normal

from clutr.agents.student import EpisodeStatistics
from clutr.curricula.base import Context, Outcome, Proposal
from clutr.curricula.latent_learnability import (
    LEAST_VARIANCE,
    LatentLearnability,
    LatentLearnabilityConfig,
    Surrogate,
)
from clutr.envs.domain import LevelBatch


@dataclass(frozen=True)
class Points(LevelBatch):
    position: Tensor


class Box:
    """A manifold whose levels are its points."""

    dim = 2
    bounds = (-1.0, 3.0)

    def decode(self, latents: Tensor) -> Points:
        return Points(latents)


def build(**options: Any) -> LatentLearnability:
    config = {"candidates": 256, "gradient_steps": 10, "hidden": 16} | options
    context: Any = Context(domain=None, seed=1, manifold=Box())  # type: ignore[arg-type]  # it uses no domain
    return LatentLearnabilityConfig(**config).build(context)


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def observe(curriculum: LatentLearnability, proposal: Proposal, episodes: list[Tensor]) -> dict[str, Tensor]:
    """Tell it what each environment's episodes returned; those above 0 were solved."""

    def column(of: Any) -> Tensor:
        return torch.stack([of(each) if len(each) else torch.tensor(0.0) for each in episodes])

    count = torch.tensor([float(len(each)) for each in episodes])
    mean, best = column(Tensor.mean), column(Tensor.max)
    square, solved = column(lambda each: each.square().mean()), column(lambda each: (each > 0).float().mean())
    return curriculum.observe(
        Outcome.stack(proposal, [EpisodeStatistics(mean, best, square, solved, count, count, {})])
    )


RETURNS = [torch.tensor([0.5, 1.5, -0.25]), torch.tensor([2.0]), torch.tensor([]), torch.tensor([-1.0, -0.5])]
POINTS = torch.tensor([[0.1, 0.2], [-0.3, 0.9], [0.5, 0.5], [-0.8, -0.1]])
COUNT = torch.tensor([3.0, 1.0, 0.0, 2.0])


def test_the_gaussian_loss_is_that_of_all_single_episodes() -> None:
    """Points with several episodes tell by their spread; the one without any tells nothing."""
    surrogate = Surrogate(2, 8, generator())
    mean = torch.tensor([float(each.mean()) if len(each) else 7.0 for each in RETURNS])
    spread = torch.tensor([float(each.var(correction=0)) if len(each) else 7.0 for each in RETURNS])
    first, second = surrogate(POINTS)
    deviation = (second.exp() + LEAST_VARIANCE).sqrt()
    each = [Normal(first[i], deviation[i]).log_prob(episodes) for i, episodes in enumerate(RETURNS)]
    expected = -torch.cat(each).mean() - 0.5 * torch.log(torch.tensor(2 * torch.pi))
    torch.testing.assert_close(surrogate.loss(POINTS, mean, COUNT, "return", spread), expected)


def test_the_bernoulli_loss_is_that_of_all_single_episodes() -> None:
    surrogate = Surrogate(2, 8, generator())
    solved = torch.tensor([float((each > 0).float().mean()) if len(each) else 1.0 for each in RETURNS])
    first, _ = surrogate(POINTS)
    each = [Bernoulli(logits=first[i]).log_prob((episodes > 0).float()) for i, episodes in enumerate(RETURNS)]
    torch.testing.assert_close(surrogate.loss(POINTS, solved, COUNT, "solved"), -torch.cat(each).mean())


def test_a_batch_without_any_episode_has_no_loss() -> None:
    surrogate = Surrogate(2, 8, generator())
    for target in ("solved", "return"):
        assert float(surrogate.loss(POINTS, torch.ones(4), torch.zeros(4), target).detach()) == 0


@pytest.mark.parametrize("episodes", [1, 8])
def test_the_predicted_variance_is_that_of_a_single_episode(episodes: int) -> None:
    """Returns have variance 1 where the first coordinate is positive and 1/16 elsewhere, however many there are."""
    rng = generator()
    points = 2 * torch.rand(1_500, 2, generator=rng) - 1
    deviation = torch.where(points[:, :1] > 0, 1.0, 0.25)
    returns = points[:, 1:] + deviation * torch.randn(1_500, episodes, generator=rng)
    surrogate = Surrogate(2, 32, rng)
    optimiser = torch.optim.Adam(surrogate.parameters(), 5e-3)
    count, spread = torch.full((1_500,), float(episodes)), returns.var(1, correction=0)
    for _ in range(250):
        optimiser.zero_grad()
        surrogate.loss(points, returns.mean(1), count, "return", spread).backward()
        optimiser.step()
    with torch.no_grad():
        found = surrogate.learnability(points, "return")
    assert float(found[points[:, 0] > 0.3].mean()) == pytest.approx(1.0, rel=0.25)
    assert float(found[points[:, 0] < -0.3].mean()) == pytest.approx(1 / 16, rel=0.4)


def test_returns_are_standardised_over_environments() -> None:
    """Returns 0, 6 and 3: the mean is 3 and the variance (9 + 9 + 0) / 3 = 6."""
    curriculum = build(target="return", gradient_steps=1)
    proposal = curriculum.propose(3)
    observe(curriculum, proposal, [torch.tensor([0.0]), torch.tensor([6.0]), torch.tensor([3.0])])
    outcomes, spread = curriculum._standardised()
    assert outcomes.tolist() == pytest.approx([-3 / 6**0.5, 3 / 6**0.5, 0.0])
    assert spread.tolist() == [0.0, 0.0, 0.0]


def test_rounding_does_not_pass_for_spread() -> None:
    """In float32 the mean square of returns of 900 is known to 0.06: next to nothing, unless that is all there is."""
    curriculum = build(target="return")
    curriculum.outcomes = torch.tensor([900.1, 900.1, 900.1, 900.1])
    curriculum.spread = torch.tensor([0.0625, 0.0, 0.0, 0.0625])
    curriculum.episodes = torch.ones(4)
    outcomes, spread = curriculum._standardised()
    assert outcomes.abs().max() < 1e-3
    assert spread.abs().max() < 0.1


def test_calibration_compares_environments_with_predictions() -> None:
    """Solved 2/3, 1, 0 and 0, however many episodes that were."""
    curriculum = build()
    proposal = curriculum.propose(4)
    assert proposal.latents is not None
    with torch.no_grad():
        chance = curriculum.surrogate((proposal.latents - 1) / 2)[0].sigmoid()
    found = observe(curriculum, proposal, RETURNS)
    torch.testing.assert_close(found["surrogate/calibration"], (2 / 3 + 1) / 4 - chance.mean())
    torch.testing.assert_close(found["predicted"], chance * (1 - chance))
    other = build(target="return")
    assert float(observe(other, other.propose(4), RETURNS)["surrogate/calibration"]) == 0


def chance_of(levels: LevelBatch) -> Tensor:
    """The made-up student's chance to solve a level: rises along the first coordinate, 1/2 at 2."""
    assert isinstance(levels, Points)
    return (5 * (levels.position[:, 0] - 2)).sigmoid()


def teach(curriculum: LatentLearnability, updates: int, seed: int = 3) -> None:
    rng = generator(seed)
    for _ in range(updates):
        proposal = curriculum.propose(32)
        chance = chance_of(proposal.levels)
        observe(curriculum, proposal, [(torch.rand(3, generator=rng) < p).float() for p in chance])


def test_chosen_points_are_solved_sometimes_and_the_others_are_uniform() -> None:
    curriculum = build(gradient_steps=30, learning_rate=3e-3)
    teach(curriculum, 30)
    proposal = curriculum.propose(64)
    chance = chance_of(proposal.levels)
    worth = chance * (1 - chance)
    assert worth[:32].mean() > 0.22
    assert worth[32:].mean() < 0.12  # the integral of p (1 - p) over [-1, 3] is close to 1/5: 0.05 on average
    assert isinstance(proposal.levels, Points)
    assert proposal.levels.position[32:].min() < -0.7
    assert proposal.levels.position[32:].max() > 2.7


def test_with_returns_chosen_points_are_those_whose_returns_vary() -> None:
    curriculum, rng = build(target="return", gradient_steps=30, learning_rate=3e-3), generator(4)
    for _ in range(30):
        proposal = curriculum.propose(32)
        assert isinstance(proposal.levels, Points)
        first, second = proposal.levels.position.unbind(1)
        deviation = torch.where(second > 2, 80.0, 10.0)
        noise = torch.randn(32, 2, generator=rng)
        observe(curriculum, proposal, list(300 + 100 * first[:, None] + deviation[:, None] * noise))
    proposal = curriculum.propose(64)
    assert isinstance(proposal.levels, Points)
    varying = (proposal.levels.position[:, 1] > 2).float()
    assert varying[:32].mean() > 0.9
    assert varying[32:].mean() < 0.5  # a quarter of the box


@pytest.mark.parametrize(("fraction", "chosen"), [(0.0, 0), (0.25, 4), (1.0, 16)])
def test_fractions_of_chosen_points(fraction: float, chosen: int) -> None:
    """The first batch is all random; then exactly the best of the candidates come first, the best one at the front."""
    curriculum = build(chosen_fraction=fraction, candidates=50, gradient_steps=1)
    rng = generator()
    rng.set_state(curriculum.rng.get_state())
    first = curriculum.propose(16)
    assert first.latents is not None
    torch.rand(50, 2, generator=rng)  # candidates that nothing is known of
    torch.testing.assert_close(first.latents, 4 * torch.rand(16, 2, generator=rng) - 1)
    observe(curriculum, first, [torch.ones(1)] * 16)

    rng.set_state(curriculum.rng.get_state())
    candidates = 2 * torch.rand(50, 2, generator=rng) - 1
    with torch.no_grad():
        best = curriculum.surrogate.learnability(candidates, "solved").topk(chosen).indices
    rest = 2 * torch.rand(16 - chosen, 2, generator=rng) - 1
    second = curriculum.propose(16)
    assert second.latents is not None
    torch.testing.assert_close(second.latents, 1 + 2 * torch.cat([candidates[best], rest]))
    assert second.train.all()


def test_there_are_as_many_candidates_as_levels_at_least() -> None:
    curriculum = build(chosen_fraction=1.0, candidates=1, gradient_steps=1)
    observe(curriculum, curriculum.propose(8), [torch.ones(1)] * 8)
    assert len(curriculum.propose(8).levels) == 8


def test_the_window_holds_the_last_levels() -> None:
    curriculum = build(window=5, gradient_steps=1, target="return")
    for value in (1.0, 2.0, 3.0):
        proposal = curriculum.propose(2)
        observe(curriculum, proposal, [torch.tensor([value, value + 1]), torch.tensor([value])])
    assert curriculum.outcomes.tolist() == [1.0, 2.5, 2.0, 3.5, 3.0]
    assert curriculum.episodes.tolist() == [1] * 5
    assert curriculum.spread.tolist() == [0.0, 0.25, 0.0, 0.25, 0.0]
    assert proposal.latents is not None
    torch.testing.assert_close(curriculum.points[-2:], (proposal.latents - 1) / 2)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"candidates": 0}, "candidates must be at least 1, got 0"),
        ({"window": 0}, "window must be at least 1, got 0"),
        ({"batch": 0}, "batch must be at least 1, got 0"),
        ({"gradient_steps": 0}, "gradient_steps must be at least 1, got 0"),
        ({"hidden": 0}, "hidden must be at least 1, got 0"),
        ({"chosen_fraction": -0.1}, r"chosen_fraction must be in 0\.\.1, got -0\.1"),
        ({"learning_rate": 0.0}, r"learning_rate must be above 0, got 0\.0"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LatentLearnabilityConfig(**options)


def test_a_missing_manifold_is_refused() -> None:
    with pytest.raises(ValueError, match="'latent-learnability' chooses latents, so the experiment needs a manifold"):
        LatentLearnabilityConfig().build(Context(domain=None, seed=1))  # type: ignore[arg-type]  # it uses no domain
