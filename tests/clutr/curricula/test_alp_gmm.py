from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from clutr.agents.student import EpisodeStatistics
from clutr.curricula.alp_gmm import ALPGMM, ALPGMMConfig, TaskMixture, absolute_learning_progress, fit_mixture
from clutr.curricula.base import Context, Outcome, Proposal
from clutr.envs.capabilities import Parameter
from clutr.envs.domain import LevelBatch
from clutr.envs.maze.domain import MazeDomain


@dataclass(frozen=True)
class Points(LevelBatch):
    position: Tensor


class Plane(MazeDomain):
    """A domain whose levels are their parameters."""

    parameters = (
        Parameter("x", -1.0, 3.0, "left to right"),
        Parameter("y", 0.0, 10.0, "up"),
    )

    def sample_at(self, parameters: Tensor, rng: torch.Generator) -> Points:  # type: ignore[override]
        torch.rand(1, generator=rng)
        return Points(parameters)


class Box:
    """A manifold whose levels are its latents."""

    bounds = (-4.0, 2.0)

    def __init__(self, dim: int) -> None:
        self.dim = dim

    def decode(self, latents: Tensor) -> Points:
        return Points(latents)


def make(dim: int = 9, **options: Any) -> ALPGMM:
    context = Context(Plane(), 1, Box(dim))  # type: ignore[arg-type]  # a part of a manifold
    return ALPGMMConfig(**options).build(context)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def outcome(proposal: Proposal, returns: Tensor) -> Outcome:
    zero = torch.zeros_like(returns)
    return Outcome.stack(proposal, [EpisodeStatistics(returns, returns, zero, zero, zero + 1, zero, {})])


def positions(proposal: Proposal) -> Tensor:
    assert isinstance(proposal.levels, Points)
    return proposal.levels.position


def teach(curriculum: ALPGMM, updates: int, n: int = 25) -> Tensor:
    """Play with a student that learns where x > 1 and nowhere else: all parameters that were proposed."""
    seen = []
    for update in range(updates):
        proposal = curriculum.propose(n)
        seen.append(positions(proposal))
        curriculum.observe(outcome(proposal, torch.where(seen[-1][:, 0] > 1, 0.05 * update, 0.3)))
    return torch.cat(seen)


def test_learning_progress_by_hand() -> None:
    old = torch.tensor([[0.0, 0.0], [1.0, 1.0], [0.5, 0.0], [0.0, 1.0]])
    old_returns = torch.tensor([0.1, 0.7, 0.4, 0.0])
    tasks = torch.tensor([[0.1, 0.1], [0.9, 0.6], [0.4, 0.2], [0.3, 0.9]])
    returns = torch.tensor([0.3, 0.5, 0.4, 1.0])
    # nearest: the first (0.02 < 0.17), the second (0.17), the third (0.05 < 0.2), the fourth (0.1)
    progress = absolute_learning_progress(tasks, returns, old, old_returns)
    torch.testing.assert_close(progress, torch.tensor([0.2, 0.2, 0.0, 1.0]))
    assert absolute_learning_progress(tasks, returns, old[:0], old_returns[:0]).tolist() == [0, 0, 0, 0]


def test_progress_is_told_against_earlier_proposals_in_the_normalised_space() -> None:
    curriculum = make()
    curriculum.propose(2)
    curriculum._pending.take()
    for tasks, returns, expected in (
        # nothing earlier; then: x spans 4 and y 10, so (0, 0.4) is nearer to (0.3, 0.3) than to (0.35, 0.9)
        ([[0.3, 0.3], [0.35, 0.9]], [0.5, 0.25], [0.0, 0.0]),
        ([[0.0, 0.4], [0.35, 0.8]], [0.75, 0.75], [0.25, 0.5]),
    ):
        curriculum._pending.put(torch.tensor(tasks))
        proposal = curriculum.box.proposal(torch.tensor(tasks))
        found = curriculum.observe(outcome(proposal, torch.tensor(returns)))
        assert found["learning_progress"].tolist() == expected
        assert found["components"] == 0
    torch.testing.assert_close(positions(proposal), torch.tensor([[-1.0, 4.0], [0.4, 8.0]]))


def test_first_proposals_are_uniform_in_the_box() -> None:
    seen = teach(make(), 9)
    assert len(seen) == 225
    assert seen.min(0).values.tolist() == pytest.approx([-1, 0], abs=0.2)
    assert seen.max(0).values.tolist() == pytest.approx([3, 10], abs=0.2)
    assert float((seen[:, 0] > 1).float().mean()) == pytest.approx(0.5, abs=0.12)


def test_tasks_go_to_where_progress_is() -> None:
    curriculum = make(window=100, fit_every=100)
    later = teach(curriculum, 40)[500:]
    fraction = float((later[:, 0] > 1).float().mean())
    # a fifth of the tasks is uniform, and half of those lie there: 0.9 at the most, give or take three deviations
    assert 0.75 < fraction < 0.94
    assert later[:, 0].max() <= 3
    assert later[:, 0].min() >= -1


def chi_square(counts: Tensor, expected: Tensor) -> float:
    return float(((counts - expected) ** 2 / expected).sum())


def test_the_random_fraction_is_kept() -> None:
    corner = torch.zeros(1, 2, dtype=torch.float64)
    for fraction in (0.0, 0.2, 1.0):
        curriculum = make(random_fraction=fraction)
        curriculum.mixture = TaskMixture(torch.ones(1).double(), corner, torch.zeros(1, 2, 2).double())
        x = positions(curriculum.propose(4000))[:, 0]
        expected = 4000 * torch.tensor([fraction, 1 - fraction])
        counts = torch.tensor([int((x > -1).sum()), int((x == -1).sum())]).float()
        assert torch.equal(counts, expected) or chi_square(counts, expected) < 10.8  # the 0.999 quantile


def test_gaussians_are_drawn_in_proportion_to_their_progress() -> None:
    means = torch.tensor([[0.1], [0.5], [0.9]], dtype=torch.float64)
    mixture = TaskMixture(torch.tensor([1.0, 0.0, 3.0]).double(), means, torch.full((3, 1, 1), 0.01).double())
    tasks = mixture.sample(4000, generator())
    counts = torch.tensor([int((tasks < 0.3).sum()), int((tasks > 0.7).sum())]).float()
    assert counts.sum() == 4000
    assert chi_square(counts, torch.tensor([1000.0, 3000.0])) < 10.8
    assert float(tasks[tasks > 0.7].std()) == pytest.approx(0.01, rel=0.1)

    nowhere = mixture._replace(progress=torch.zeros(3).double()).sample(3000, generator())
    counts = torch.histc(nowhere, bins=3, min=0, max=1)
    assert chi_square(counts, torch.full((3,), 1000.0)) < 13.8


def test_samples_follow_the_covariance_and_stay_in_the_box() -> None:
    covariance = torch.tensor([[0.04, 0.03], [0.03, 0.04]], dtype=torch.float64) / 10
    mixture = TaskMixture(
        torch.ones(1).double(), torch.full((1, 2), 0.5).double(), torch.linalg.cholesky(covariance)[None]
    )
    torch.testing.assert_close(mixture.sample(20_000, generator()).T.cov().double(), covariance, atol=2e-4, rtol=0)
    wide = mixture._replace(factors=mixture.factors * 100).sample(500, generator())
    assert wide.min() == 0
    assert wide.max() == 1


def test_the_mixture_is_fitted_on_schedule() -> None:
    curriculum, fitted = make(window=30, fit_every=40, max_components=3), []
    last = curriculum.mixture
    for _ in range(12):
        proposal = curriculum.propose(16)
        found = curriculum.observe(outcome(proposal, torch.rand(16, generator=generator())))
        fitted.append(curriculum.mixture is not last)
        last = curriculum.mixture
        assert found["components"] in ((0.0,) if last is None else (2.0, 3.0))
    # 48 tasks are the first to reach 40; then it counts anew
    assert fitted == [False, False, True] * 4


def test_only_the_window_is_fitted_and_only_the_history_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def fit(tasks: Tensor, progress: Tensor, *rest: Any) -> TaskMixture:
        seen.append(tasks)
        return fit_mixture(tasks, progress, *rest)

    monkeypatch.setattr("clutr.curricula.alp_gmm.fit_mixture", fit)
    curriculum = make(window=30, fit_every=50, max_components=2, history=70)
    teach(curriculum, 4)
    assert [len(tasks) for tasks in seen] == [30, 30]
    assert len(curriculum.tasks) == len(curriculum.returns) == len(curriculum.progress) == 70
    assert torch.equal(seen[-1], curriculum.tasks[-30:])


def clusters(centres: list[list[float]], progress: list[float], unit: float = 1.0) -> tuple[Tensor, Tensor]:
    noise = 0.02 * torch.randn(400, 3, generator=generator())
    index = torch.arange(400) % len(centres)
    return torch.tensor(centres)[index] + noise[:, :2], (torch.tensor(progress)[index] + noise[:, 2]) * unit


@pytest.mark.parametrize("covariance", ["full", "diag"])
def test_as_many_gaussians_as_there_are_clusters(covariance: str) -> None:
    two = clusters([[0.2, 0.2], [0.8, 0.7]], [0.1, 1.0])
    mixture = fit_mixture(*two, max_components=6, covariance=covariance, seed=3)
    assert mixture.means.shape == (2, 2)
    order = mixture.progress.argsort()
    torch.testing.assert_close(mixture.means[order], torch.tensor([[0.2, 0.2], [0.8, 0.7]]).double(), atol=0.01, rtol=0)
    assert float(mixture.progress.max() / mixture.progress.min()) == pytest.approx(10, rel=0.1)
    deviations = (mixture.factors @ mixture.factors.mT).diagonal(dim1=1, dim2=2).sqrt()
    torch.testing.assert_close(deviations, torch.full((2, 2), 0.02).double(), atol=0.005, rtol=0)

    four = clusters([[0.2, 0.2], [0.8, 0.7], [0.2, 0.8], [0.7, 0.1]], [0.1, 1.0, 0.5, 0.1])
    assert len(fit_mixture(*four, max_components=6, covariance=covariance, seed=3).means) == 4


def test_the_unit_of_returns_does_not_matter() -> None:
    one, other = (
        fit_mixture(*clusters([[0.2, 0.2], [0.8, 0.7]], [0.1, 1.0], unit), max_components=4, covariance="full", seed=3)
        for unit in (1.0, 512.0)
    )
    assert all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def test_a_fit_follows_its_seed_and_leaves_the_global_generators_alone() -> None:
    tasks, progress = torch.rand(60, 2, generator=generator()), torch.rand(60, generator=generator(1))
    before = torch.get_rng_state()
    one, same = (fit_mixture(tasks, progress, 5, "full", 7) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, same, strict=True))
    assert torch.equal(torch.get_rng_state(), before)


def test_few_distinct_tasks_without_progress_can_be_fitted() -> None:
    tasks = torch.tensor([[0.0, 0.5], [1.0, 0.5]]).repeat(10, 1)
    assert len(fit_mixture(tasks[:2], torch.zeros(2), 5, "full", 1).means) == 2
    mixture = fit_mixture(tasks, torch.zeros(20), 5, "full", 1)
    assert all(part.isfinite().all() for part in mixture)
    sampled = mixture.sample(200, generator())
    assert float(((sampled - 0.5)[:, 0].abs() - 0.5).abs().max()) < 0.01


def test_a_restored_teacher_goes_on_bit_for_bit_with_its_mixture() -> None:
    options = {"window": 60, "fit_every": 60, "max_components": 4}
    original = make(**options)
    teach(original, 6)
    state = original.state_dict()
    assert state["mixture"] is not None
    restored = make(**options)
    teach(restored, 3)
    restored.load_state_dict(state)
    assert torch.equal(teach(original, 8), teach(restored, 8))


@pytest.mark.parametrize(("dim", "covariance"), [(8, "full"), (9, "diag")])
def test_latents_are_tasks_too(dim: int, covariance: str) -> None:
    curriculum = make(dim, space="latent", window=60, fit_every=60, max_components=3)
    assert curriculum.covariance == covariance
    assert make(dim, space="latent", covariance="full").covariance == "full"
    seen = teach(curriculum, 6)
    assert seen.shape == (150, dim)
    proposal = curriculum.propose(50)
    assert proposal.latents is not None
    assert torch.equal(proposal.latents, positions(proposal))
    assert proposal.latents.min() >= -4
    assert proposal.latents.max() <= 2


def test_latents_need_a_manifold() -> None:
    with pytest.raises(
        ValueError, match="the curriculum 'alp-gmm' chooses latents, so the experiment needs a manifold"
    ):
        ALPGMMConfig(space="latent").build(Context(Plane(), 1))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"space": "pixels"}, "space must be parameters or latent, got 'pixels'"),
        ({"covariance": "tied"}, "covariance must be auto or full or diag, got 'tied'"),
        ({"max_components": 1}, "max_components must be at least 2, got 1"),
        ({"window": 9}, "window must be at least max_components, 10, got 9"),
        ({"fit_every": 0}, "fit_every must be at least 1, got 0"),
        ({"history": 249}, "history must be at least window, 250, got 249"),
        ({"random_fraction": 1.1}, r"random_fraction must be in 0..1, got 1.1"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ALPGMMConfig(**options)
