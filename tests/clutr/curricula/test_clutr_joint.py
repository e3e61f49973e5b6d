"""CLUTR on a manifold that moves: what the VAE learns from, how, and that all of it is in the state."""

import copy
from typing import Any

import pytest
import torch
from scipy.stats import chisquare
from torch import Tensor

from clutr.agents.student import EpisodeStatistics
from clutr.curricula.base import Context, Outcome
from clutr.curricula.clutr import CLUTR, CLUTRConfig
from clutr.curricula.clutr_joint import CLUTRJoint, CLUTRJointConfig
from clutr.envs.maze.domain import MazeDomain
from clutr.manifold.combinatorial import CombinatorialConfig
from clutr.manifold.recurrent_vae import RecurrentVAEConfig
from clutr.manifold.set_vae import SetVAEConfig
from clutr.manifold.vae import VAEManifold

DOMAIN = MazeDomain(height=5, width=5, max_obstacles=6, max_steps=8)


def set_vae(**options: Any) -> VAEManifold:
    return SetVAEConfig(**{"hidden": 8, "latent": 6, "refinements": 1} | options).build(DOMAIN, 1)


def recurrent_vae() -> VAEManifold:
    return RecurrentVAEConfig(latent=6, embedding=4, encoder=4, decoder=8).build(DOMAIN, 1)


def joint(manifold: VAEManifold | None = None, seed: int = 1, **options: Any) -> CLUTRJoint:
    config = {"hidden": 4, "noise": 4, "vae_steps": 2, "vae_batch": 16} | options
    return CLUTRJointConfig(**config).build(Context(DOMAIN, seed, manifold or set_vae()))


def play(curriculum: CLUTR, regret: list[float]) -> dict[str, Tensor]:
    """One update in which the antagonist is better by `regret`."""
    proposal = curriculum.propose(len(regret))
    zeros, ones = torch.zeros(len(regret)), torch.ones(len(regret))
    students = [EpisodeStatistics(r, r, r, r, ones, ones, {}) for r in (zeros, torch.tensor(regret))]
    return curriculum.observe(Outcome.stack(proposal, students))


def weights(manifold: Any) -> list[Tensor]:
    return [value.clone() for value in manifold.network.state_dict().values()]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("make", [set_vae, recurrent_vae])
def test_the_vae_moves_with_clutr_joint_and_is_left_in_evaluation(make: Any) -> None:
    curriculum = joint(make())
    before = weights(curriculum.manifold)
    found = play(curriculum, [0.5, 0.1, 0.0, 0.2])
    assert not same(before, weights(curriculum.manifold))
    assert not curriculum.network.training  # type: ignore[attr-defined]  # it is a module
    assert {"vae/reconstruction", "vae/kl", "regret", "teacher/entropy"} <= set(found)
    assert all(value.isfinite().all() and not value.requires_grad for value in found.values())


@pytest.mark.parametrize("make", [set_vae, recurrent_vae])
def test_the_vae_stays_bit_equal_with_clutr(make: Any) -> None:
    manifold = make()
    before = weights(manifold)
    curriculum = CLUTRConfig(hidden=4, noise=4).build(Context(DOMAIN, 1, manifold))
    for _ in range(3):
        play(curriculum, [0.5, 0.1, 0.0, 0.2])
    assert same(before, weights(manifold))


def spied(curriculum: CLUTRJoint) -> list[tuple[Tensor, Tensor, dict[str, Tensor]]]:
    """Receives tokens, loss and its parts of every gradient step."""
    seen: list[tuple[Tensor, Tensor, dict[str, Tensor]]] = []
    original = curriculum.network.loss

    def spy(tokens: Tensor, iteration: int, total: int, rng: torch.Generator) -> Any:
        loss, parts = original(tokens, iteration, total, rng)
        seen.append((tokens, loss.detach(), parts))
        return loss, parts

    curriculum.network.loss = spy  # type: ignore[method-assign]
    return seen


def test_the_kl_term_of_a_recurrent_vae_has_its_full_weight() -> None:
    """Its schedule counts iterations and not fractions of a training. Full weight: 79 x nats a token + 1 x KL."""
    curriculum = joint(recurrent_vae(), vae_steps=1)
    seen = spied(curriculum)
    play(curriculum, [0.5, 0.1, 0.0, 0.2])
    ((tokens, loss, parts),) = seen
    words = (tokens > 0).sum(1).float().mean() + 1  # and the end
    torch.testing.assert_close(loss, 79 * parts["reconstruction"] / words + parts["kl"])


def test_the_kl_term_of_a_set_vae_has_its_full_weight() -> None:
    """The rest of its loss is the reconstruction's nats, of which special tokens count twice."""
    curriculum = joint(set_vae(kl_weight=10.0), vae_steps=1)
    seen = spied(curriculum)
    play(curriculum, [0.5, 0.1, 0.0, 0.2])
    ((_, loss, parts),) = seen
    rest = float(loss - 10 * parts["kl"])
    assert 1 < rest / float(parts["reconstruction"]) < 2


def fractions(curriculum: CLUTRJoint, regret: list[float]) -> tuple[list[float], int]:
    """How often each of these proposals was learnt from, and the number of draws."""
    seen = spied(curriculum)
    tasks = torch.tensor([[1, 2, 3], [2, 3, 4], [3, 4, 5], [4, 5, 6]]).repeat(len(regret) // 4 or 1, 1)
    curriculum.tasks = torch.nn.functional.pad(tasks, (0, DOMAIN.max_tokens - 3))[: len(regret)]
    curriculum.regrets = torch.tensor(regret)
    curriculum._learn()
    drawn = torch.cat([tokens for tokens, _, _ in seen])
    return [float((drawn[:, 0] == first).sum()) for first in (1, 2, 3, 4)], len(drawn)


@pytest.mark.parametrize(
    ("regret", "expected"),
    [
        ([0.1, 0.3, 0.2, 0.4], [0.1, 0.3, 0.2, 0.4]),
        ([0.0, 0.0, 0.0, 0.0], [0.25] * 4),
        ([2.0, 6.0, 4.0, 8.0], [0.1, 0.3, 0.2, 0.4]),  # returns of cars are in hundreds
    ],
)
def test_tasks_are_drawn_in_proportion_to_regret(regret: list[float], expected: list[float]) -> None:
    counts, total = fractions(joint(vae_steps=10, vae_batch=100), regret)
    assert chisquare(counts, [fraction * total for fraction in expected]).pvalue > 0.01


def test_tasks_without_regret_are_left_out_where_others_have_some() -> None:
    counts, _ = fractions(joint(vae_steps=4, vae_batch=100), [0.0, 0.5, -0.5, 0.5])
    assert counts[0] == counts[2] == 0


def test_the_last_tasks_of_the_window_are_kept_with_their_regrets() -> None:
    curriculum = joint(vae_window=6)
    play(curriculum, [0.1, 0.2, 0.3, 0.4])
    earlier = curriculum.tasks.clone()
    play(curriculum, [0.5, 0.6, 0.7, 0.8])
    assert curriculum.regrets.tolist() == pytest.approx([0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    assert torch.equal(curriculum.tasks[:2], earlier[2:])
    assert curriculum.tasks.shape == (6, DOMAIN.max_tokens)


@pytest.mark.parametrize("make", [set_vae, recurrent_vae])
def test_another_instance_goes_on_from_the_state_with_the_same_vae(make: Any) -> None:
    original = joint(make(), vae_learning_rate=0.01)
    for _ in range(3):
        play(original, [0.5, 0.1, 0.0, 0.2])
    state = copy.deepcopy(original.state_dict())
    points = 8 * torch.rand(40, 6, generator=torch.Generator().manual_seed(3)) - 4
    untrained = make()
    assert untrained.decode(points).key() != original.manifold.decode(points).key()

    restored = joint(untrained, seed=9, vae_learning_rate=0.01)
    play(restored, [0.3, 0.3])
    restored.load_state_dict(state)
    assert restored.manifold.decode(points).key() == original.manifold.decode(points).key()
    levels = DOMAIN.sample(8, torch.Generator().manual_seed(4))
    assert torch.equal(restored.manifold.encode(levels), original.manifold.encode(levels))
    for _ in range(2):
        expected, found = play(original, [0.1, 0.4, 0.2, 0.0]), play(restored, [0.1, 0.4, 0.2, 0.0])
        assert {name: value.tolist() for name, value in found.items()} == {
            name: value.tolist() for name, value in expected.items()
        }
    assert same(weights(original.manifold), weights(restored.manifold))


def test_learning_uses_no_global_randomness() -> None:
    curriculum = joint(RecurrentVAEConfig(latent=6, embedding=4, encoder=4, decoder=8, dropout=0.3).build(DOMAIN, 1))
    before = torch.get_rng_state()
    play(curriculum, [0.5, 0.1, 0.0, 0.2])
    assert torch.equal(torch.get_rng_state(), before)


def test_a_manifold_without_a_vae_is_refused() -> None:
    coordinates = CombinatorialConfig().build(DOMAIN, 1)
    with pytest.raises(ValueError, match="'clutr-joint' goes on training a task VAE, and this manifold is none"):
        CLUTRJointConfig().build(Context(DOMAIN, 1, coordinates))
    with pytest.raises(ValueError, match="chooses latents, so the experiment needs a manifold"):
        CLUTRJointConfig().build(Context(DOMAIN, 1))


@pytest.mark.parametrize("name", ["vae_steps", "vae_batch", "vae_window"])
def test_counts_below_one_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        joint(None, 1, **{name: 0})


def test_other_bad_options() -> None:
    with pytest.raises(ValueError, match=r"vae_learning_rate must be above 0, got 0\.0"):
        joint(vae_learning_rate=0.0)
    with pytest.raises(ValueError, match="regret must be paired or flexible, got 'minimax'"):
        joint(regret="minimax")
