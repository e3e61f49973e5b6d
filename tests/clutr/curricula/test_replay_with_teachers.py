"""Teachers with replay or with a moving manifold: what each learns from, and what is played again."""

from typing import Any

import pytest
import torch
from torch import Tensor

from clutr.agents.student import EpisodeStatistics
from clutr.curricula.base import Context, Outcome, Proposal
from clutr.curricula.clutr_joint import CLUTRJoint, CLUTRJointConfig
from clutr.curricula.clutr_replay import CLUTRReplay, CLUTRReplayConfig
from clutr.curricula.latent_accel import LatentACCELConfig, mix, step
from clutr.curricula.latent_learnability import LatentLearnability, LatentLearnabilityConfig, Surrogate
from clutr.curricula.repaired import REPAIRED, REPAIREDConfig
from clutr.envs.maze.domain import MazeDomain
from clutr.manifold.set_vae import SetVAEConfig
from clutr.manifold.vae import VAEManifold

DOMAIN = MazeDomain(height=5, width=5, max_obstacles=6, max_steps=8)
SCORES = ("value_l1", "positive_value_loss", "negative_value_loss", "mean_value")


def manifold(seed: int = 1) -> VAEManifold:
    return SetVAEConfig(hidden=8, latent=6, refinements=1).build(DOMAIN, seed)


def context() -> Context:
    return Context(DOMAIN, 1, manifold())


def statistics(mean: Tensor, best: Tensor | None = None, episodes: Tensor | None = None, value: float = 0.0) -> Any:
    n = len(mean)
    zeros, best = torch.zeros(n), mean if best is None else best
    count = torch.ones(n) if episodes is None else episodes
    scores = dict.fromkeys(SCORES, zeros) | {"value_l1": torch.full((n,), value)}
    return EpisodeStatistics(mean, best, mean.square(), (mean > 0).float(), count, zeros, scores)


def play(curriculum: Any, values: tuple[float, float] = (0.1, 0.2)) -> tuple[Proposal, dict[str, Tensor]]:
    """The antagonist does better than the protagonist, on some levels more than on others."""
    proposal = curriculum.propose(4)
    ramp = torch.linspace(0.1, 0.8, 4)
    found = [statistics(ramp / 2, value=values[0]), statistics(ramp, value=values[1])]
    return proposal, curriculum.observe(Outcome.stack(proposal, found))


def weights(module: Any) -> list[Tensor]:
    return [value.clone() for value in module.state_dict().values() if isinstance(value, Tensor)]


def same(first: list[Tensor], second: list[Tensor]) -> bool:
    return all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_repaired_students_replay_their_own_levels_and_the_teacher_learns_from_new_ones_only() -> None:
    config = REPAIREDConfig(
        filters=2, recurrent=8, capacity=8, minimum_fill=0.5, replay_probability=0.7, score="value_l1"
    )
    curriculum = config.build(context())
    assert isinstance(curriculum, REPAIRED)
    kinds = []
    for update in range(24):
        held = [set(buffer.levels.key()) if len(buffer) else set() for buffer in curriculum.buffers]
        teacher, rng = weights(curriculum.teacher.designer), curriculum.teacher.rng.get_state()
        # each student finds other levels worth it, so that their buffers come to differ
        proposal, found = play(curriculum, (0.1 + update % 3, 0.1 + (update + 1) % 4))
        replayed = bool(found["buffer/replayed"])
        kinds.append(replayed)
        keys = proposal.levels.key()
        played = [{keys[level] for level in proposal.assignment[student].tolist()} for student in range(2)]
        assert proposal.train.tolist() == [replayed] * len(keys)
        if replayed:
            assert played[0] <= held[0]
            assert played[1] <= held[1]
            assert "regret" not in found
        else:
            assert played[0] == played[1] == set(keys)
        assert same(teacher, weights(curriculum.teacher.designer)) == replayed
        assert torch.equal(rng, curriculum.teacher.rng.get_state()) == replayed
    assert {False, True} == set(kinds)
    assert not kinds[0]


def test_repaired_wants_two_students() -> None:
    with pytest.raises(ValueError, match="REPAIRED compares two students, so regret must be paired or flexible"):
        REPAIREDConfig(regret="minimax")


def clutr_replay() -> CLUTRReplay:
    found = CLUTRReplayConfig(capacity=6, minimum_fill=0.5, replay_probability=0.7, hidden=4).build(context())
    assert isinstance(found, CLUTRReplay)
    return found


def test_clutr_replays_latents_that_decode_to_what_is_played() -> None:
    curriculum = clutr_replay()
    kinds = []
    for _ in range(16):
        teacher = weights(curriculum.teacher.teacher.policy)
        proposal, found = play(curriculum)
        replayed = bool(found["buffer/replayed"])
        kinds.append(replayed)
        assert proposal.latents is not None
        assert curriculum.teacher.manifold.decode(proposal.latents).key() == proposal.levels.key()
        assert same(teacher, weights(curriculum.teacher.teacher.policy)) == replayed
        assert torch.equal(proposal.assignment[0], proposal.assignment[1]), "both students play the same"
        assert found["regret"].shape == (len(proposal.levels),)
    assert {False, True} == set(kinds)


def test_the_regret_of_a_level_in_several_environments_is_that_of_all_of_them() -> None:
    """Antagonist's best over both environments, 0.9, minus the protagonist's mean over them, 0.4."""
    curriculum = clutr_replay()
    for _ in range(50):
        proposal = curriculum.propose(2)
        if len(proposal.levels) == 1:
            break
        curriculum.observe(Outcome.stack(proposal, [statistics(torch.zeros(2)), statistics(torch.tensor([0.2, 0.9]))]))
    assert proposal.assignment.tolist() == [[0, 0], [0, 0]]
    weak = statistics(torch.tensor([0.1, 0.7]), episodes=torch.tensor([3.0, 1.0]))
    strong = statistics(torch.tensor([0.5, 0.3]), best=torch.tensor([0.6, 0.9]))
    found = curriculum.observe(Outcome.stack(proposal, [weak, strong]))
    torch.testing.assert_close(found["regret"], torch.tensor([0.9 - (0.1 + 0.7) / 2]))


def test_a_joint_vae_moves_and_a_frozen_one_does_not() -> None:
    joint = CLUTRJointConfig(hidden=4, vae_steps=2, vae_batch=16).build(context())
    before = weights(joint.network)
    _, found = play(joint)
    assert not same(before, weights(joint.network))
    assert any(name.startswith("vae/") for name in found)
    frozen = clutr_replay()
    network = frozen.teacher.manifold.network  # type: ignore[attr-defined]
    before = weights(network)
    play(frozen)
    assert same(before, weights(network))


def test_a_joint_vae_learns_from_tasks_in_proportion_to_their_regret() -> None:
    joint = CLUTRJointConfig(hidden=4, vae_steps=40, vae_batch=64, vae_learning_rate=1e-9).build(context())
    assert isinstance(joint, CLUTRJoint)
    drawn: list[Tensor] = []
    original = joint.network.loss

    def spy(tokens: Tensor, iteration: int, total: int, rng: torch.Generator) -> Any:
        drawn.append(tokens)
        return original(tokens, iteration, total, rng)

    joint.network.loss = spy  # type: ignore[method-assign]
    proposal = joint.propose(4)
    antagonist, protagonist = torch.tensor([0.1, 0.0, 0.2, 0.7]), torch.zeros(4)
    joint.observe(Outcome.stack(proposal, [statistics(protagonist), statistics(antagonist)]))
    tokens = DOMAIN.to_tokens(proposal.levels)
    everything = torch.cat(drawn)
    for level, expected in enumerate((0.1, 0.0, 0.2, 0.7)):
        twins = [other for other in range(4) if torch.equal(tokens[other], tokens[level])]
        if twins == [level]:
            fraction = (everything == tokens[level]).all(1).float().mean()
            assert float(fraction) == pytest.approx(expected, abs=0.04)


def test_a_joint_curriculum_needs_a_vae() -> None:
    bare: Any = type("Bare", (), {"dim": 2, "bounds": (-1.0, 1.0)})()
    with pytest.raises(ValueError, match="'clutr-joint' goes on training a task VAE, and this manifold is none"):
        CLUTRJointConfig().build(Context(DOMAIN, 1, bare))


def test_latent_steps_have_their_size_and_stay_in_the_box() -> None:
    rng = torch.Generator().manual_seed(1)
    moved = step(torch.zeros(2_000, 3), 0.05, (-4.0, 4.0), rng)
    assert float(moved.std()) == pytest.approx(0.4, rel=0.05)
    assert step(torch.full((100, 3), 4.0), 0.5, (-4.0, 4.0), rng).max() == 4.0
    codes = torch.tensor([[0.0, 0.0], [4.0, -4.0]])
    mixed = mix(codes.repeat(50, 1), 0.5, rng)
    torch.testing.assert_close(mixed[:, 0], -mixed[:, 1])  # on the line between the two
    away = (mixed - codes.repeat(50, 1))[:, 0].abs()
    assert 0 < away.max() <= 2.0


def test_children_are_decodes_near_their_parents_codes() -> None:
    curriculum = LatentACCELConfig(size=1e-6).build(context())
    parents = DOMAIN.sample(5, torch.Generator().manual_seed(2))
    expected = curriculum.manifold.decode(curriculum.manifold.encode(parents))
    assert curriculum.edit(parents).key() == expected.key()
    far = LatentACCELConfig(size=0.5).build(context()).edit(parents)
    assert far.key() != expected.key()


def true_chance(points: Tensor) -> Tensor:
    """How often a made-up student solves what lies at points of [-1, 1]^6."""
    return (4 * points[:, 0]).sigmoid()


def learner(**options: Any) -> LatentLearnability:
    config = {"candidates": 256, "gradient_steps": 30, "chosen_fraction": 0.5} | options
    return LatentLearnabilityConfig(**config).build(context())


def teach(curriculum: LatentLearnability, updates: int) -> None:
    rng = torch.Generator().manual_seed(5)
    for _ in range(updates):
        proposal = curriculum.propose(32)
        assert proposal.latents is not None
        chance = true_chance(proposal.latents / curriculum.manifold.bounds[1])
        solved = (torch.rand(32, 4, generator=rng) < chance[:, None]).float().mean(1)
        found = statistics(solved, episodes=torch.full((32,), 4.0))
        found = EpisodeStatistics(**{**vars(found), "solved": solved})
        curriculum.observe(Outcome.stack(proposal, [found]))


def test_the_surrogate_finds_what_is_solved_sometimes() -> None:
    curriculum = learner()
    teach(curriculum, 30)
    proposal = curriculum.propose(64)
    assert proposal.latents is not None
    chance = true_chance(proposal.latents / curriculum.manifold.bounds[1])
    worth = chance * (1 - chance)
    assert worth[:32].mean() > 0.23, "chosen: nearly the most there is, 0.25"
    assert worth[32:].mean() < 0.17, "random"


def test_a_gaussian_surrogate_finds_where_returns_vary() -> None:
    rng = torch.Generator().manual_seed(1)
    surrogate = Surrogate(2, 32, rng)
    optimiser = torch.optim.Adam(surrogate.parameters(), 1e-2)
    points = 2 * torch.rand(2_000, 2, generator=rng) - 1
    spread = torch.where(points[:, 1] > 0, 1.0, 0.1)
    outcomes = points[:, 0] + spread * torch.randn(2_000, generator=rng)
    for _ in range(100):
        optimiser.zero_grad()
        surrogate.loss(points, outcomes, torch.ones(2_000), "return").backward()
        optimiser.step()
    with torch.no_grad():
        found = surrogate.learnability(points, "return")
    assert float(found[points[:, 1] > 0.2].mean()) == pytest.approx(1.0, rel=0.3)
    assert found[points[:, 1] < -0.2].mean() < 0.1


def test_levels_without_a_finished_episode_weigh_nothing() -> None:
    surrogate = Surrogate(2, 8, torch.Generator().manual_seed(1))
    points, outcomes = torch.tensor([[0.1, 0.2], [0.3, 0.4]]), torch.tensor([1.0, 0.0])
    both = surrogate.loss(points, outcomes, torch.tensor([3.0, 0.0]), "solved")
    first = surrogate.loss(points[:1], outcomes[:1], torch.tensor([3.0]), "solved")
    torch.testing.assert_close(both, first)


def test_the_surrogate_forgets_beyond_its_window() -> None:
    curriculum = learner(window=40)
    teach(curriculum, 3)
    assert len(curriculum.points) == len(curriculum.outcomes) == len(curriculum.episodes) == 40


def test_messages() -> None:
    cases: list[tuple[Any, dict[str, Any], str]] = [
        (LatentLearnabilityConfig, {"target": "x"}, "target must be solved or return, got 'x'"),
        (LatentLearnabilityConfig, {"chosen_fraction": 2.0}, r"chosen_fraction must be in 0\.\.1, got 2\.0"),
        (LatentACCELConfig, {"move": "jump"}, "move must be step or mix, got 'jump'"),
        (LatentACCELConfig, {"size": 0.0}, r"size must be above 0, got 0\.0"),
        (CLUTRJointConfig, {"vae_steps": 0}, "vae_steps must be at least 1, got 0"),
        (CLUTRReplayConfig, {"capacity": 0}, "capacity must be at least 1, got 0"),
    ]
    for config, options, message in cases:
        with pytest.raises(ValueError, match=message):
            config(**options)
