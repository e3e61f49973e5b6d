import math
from itertools import combinations, permutations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from torch import Tensor

from clutr.envs.capabilities import Tokens
from clutr.envs.car.domain import CarDomain
from clutr.envs.maze.domain import MazeDomain
from clutr.manifold.ariel import ArielConfig, ArielManifold
from clutr.manifold.pretrain import pretrain
from clutr.manifold.sequence_model import LARGEST, NEVER, Chances

SMALL = MazeDomain(2, 3, 2)
"""Six cells: 6 * 5 places for goal and agent, and 1 + 4 + 6 sets of walls."""
TINY = ArielConfig(hidden=8, iterations=12, batch_size=16)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def uniform(manifold: ArielManifold, n: int) -> Tensor:
    return torch.rand(n, manifold.dim, generator=rng())


def all_tasks() -> Tensor:
    """Every canonical task of `SMALL`, `[330, 4]`."""
    tasks = []
    for size in range(3):
        for goal, agent in permutations(range(1, 7), 2):
            free = [cell for cell in range(1, 7) if cell not in (goal, agent)]
            tasks += [[*walls, goal, agent] + [0] * (2 - size) for walls in combinations(free, size)]
    return torch.tensor(tasks)


@pytest.fixture(scope="module")
def trained() -> ArielManifold:
    """A model that has learnt a little: its chances are far from uniform and from each other."""
    return pretrain(ArielConfig(hidden=16, iterations=60, batch_size=64, learning_rate=0.05), SMALL, 1)


@pytest.mark.parametrize("config", [TINY, ArielConfig(hidden=8, dim=2, bits=11), ArielConfig(hidden=8, dim=3, bits=8)])
def test_the_chances_of_all_tasks_add_up_to_one(config: ArielConfig) -> None:
    manifold = config.build(SMALL, 3)
    nats = manifold.nats(SMALL.from_tokens(all_tasks())[0])
    assert float((-nats).exp().sum()) == pytest.approx(1, abs=1e-12)
    assert float(nats.std()) > 0.05, "an untrained model prefers some tasks"


@pytest.mark.parametrize("dim", [4, 2])
def test_uniform_points_are_draws_of_the_model(dim: int, trained: ArielManifold) -> None:
    manifold = ArielConfig(hidden=16, dim=dim, bits=16 if dim == 4 else 11).build(SMALL, 1)
    manifold.load_state_dict(trained.state_dict())
    n = 60_000
    tasks = all_tasks()
    rows, counts = manifold.decode_tokens(uniform(manifold, n)).unique(dim=0, return_counts=True)
    found = {tuple(row): count for row, count in zip(rows.tolist(), counts.tolist(), strict=True)}
    chances = (-manifold.nats(SMALL.from_tokens(tasks)[0])).exp()
    expected = {tuple(task): n * chance for task, chance in zip(tasks.tolist(), chances.tolist(), strict=True)}
    assert found.keys() <= expected.keys()
    # tasks that are too rare to count by themselves are counted together
    common = [task for task in expected if expected[task] >= 5]
    seen = [found.get(task, 0) for task in common]
    wanted = [expected[task] for task in common]
    if n - sum(wanted) > 5:
        seen.append(n - sum(seen))
        wanted.append(n - sum(wanted))
    else:
        wanted = [each * sum(seen) / sum(wanted) for each in wanted]
    assert len(common) > 100
    assert chisquare(seen, wanted).pvalue > 1e-3


@pytest.mark.parametrize(
    "domain", [MazeDomain(), CarDomain(), SMALL, MazeDomain(1, 2, 0), MazeDomain(1, 5, 3), CarDomain(100)]
)
def test_every_sampled_task_comes_back_and_none_needs_a_repair(domain: Tokens) -> None:
    manifold = TINY.build(domain, 1)
    levels = domain.sample(100, rng())
    codes = manifold.encode(levels)
    assert codes.dtype == torch.float32
    assert torch.equal(domain.to_tokens(manifold.decode(codes)), domain.to_tokens(levels))
    tokens = manifold.decode_tokens(uniform(manifold, 200))
    decoded, repairs = domain.from_tokens(tokens)
    assert not any(bool(count.any()) for count in repairs.counts.values())
    assert torch.equal(domain.to_tokens(decoded), tokens), "what is decoded is canonical"


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_maze_comes_back(data: st.DataObject) -> None:
    height, width = data.draw(st.integers(1, 13)), data.draw(st.integers(2, 13))
    cells = height * width
    domain = MazeDomain(height, width, data.draw(st.integers(0, min(50, cells - 2))))
    size = data.draw(st.integers(0, domain.max_obstacles))
    order = data.draw(st.permutations(range(1, cells + 1)))
    tokens = torch.tensor([[*sorted(order[:size]), order[size], order[size + 1]] + [0] * (domain.max_obstacles - size)])
    levels, _ = domain.from_tokens(tokens)
    manifold = ArielConfig(hidden=8).build(domain, 1)
    back = manifold.decode(manifold.encode(levels))
    assert domain.to_tokens(back).tolist() == tokens.tolist()
    assert back.key() == levels.key(), "a decoded maze's heading is a function of the maze"


@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(1, 100), min_size=12, max_size=12), st.sampled_from([(0, 16), (6, 11), (12, 10)]))
def test_any_road_comes_back(cells: set[int], shape: tuple[int, int]) -> None:
    domain = CarDomain()
    manifold = ArielConfig(hidden=8, dim=shape[0], bits=shape[1]).build(domain, 1)
    assert manifold.dim == (shape[0] or 12)
    expected = domain.to_tokens(domain.from_tokens(torch.tensor([sorted(cells)]))[0])
    levels, _ = domain.from_tokens(expected)
    assert domain.to_tokens(manifold.decode(manifold.encode(levels))).tolist() == expected.tolist()


def test_the_least_likely_tasks_of_a_trained_model_come_back() -> None:
    domain = MazeDomain()
    manifold = ArielConfig(hidden=16).build(domain, 1)
    with torch.no_grad():  # as sure of itself as can be: every chance but one a part in 65536
        manifold.network.output.weight.zero_()
        manifold.network.output.bias.copy_(torch.linspace(-300, 300, 170))
    last, first = list(range(120, 170)), list(range(1, 51))
    tokens = torch.tensor([[*last, 1, 2], [*first, 168, 169], [1, 2] + [0] * 50])
    levels, _ = domain.from_tokens(tokens)
    assert torch.equal(domain.to_tokens(manifold.decode(manifold.encode(levels))), tokens)
    assert float(manifold.nats(levels)[1]) > 49 * math.log(2**15), "that was the hard case"


def test_chances_are_the_same_to_the_last_bit_in_any_company(trained: ArielManifold) -> None:
    levels = SMALL.sample(301, rng())
    centres, widths = trained.cells(levels)
    for rows in ([7], [300, 7, 0], list(range(300, -1, -1))):
        alone, own = trained.cells(levels[torch.tensor(rows)])
        assert torch.equal(alone, centres[rows])
        assert torch.equal(own, widths[rows])


def test_exact_chances_are_those_of_the_trained_network(trained: ArielManifold) -> None:
    model = trained.network
    levels = SMALL.sample(400, rng())
    tokens = SMALL.to_tokens(levels)
    told, _ = model.loss(tokens, 0, 1, rng())
    # rounding of weights and logits, and the least chance, cost next to nothing
    assert float(trained.nats(levels).mean()) == pytest.approx(float(told.detach()), abs=0.02)


def test_chances_by_hand() -> None:
    model = ArielConfig(hidden=1).build(SMALL, 1).network
    with torch.no_grad():
        model.step.weight.fill_(2.0)
        model.before.weight.zero_()
        model.previous.weight.zero_()
        model.output.weight.zero_()
        model.output.bias.copy_(torch.tensor([0.0, 0, 0, 0, 0, 0, 1.0]))
        model.output.weight[0] = 0.5  # times the hidden value 2
    chances = Chances(model, 2, 16)
    first = chances.next(0)
    assert first.sum(1).tolist() == [2**16] * 2
    # e : 1 : 1 : 1 : 1 : 1 : e
    expected = torch.tensor([math.e, 1, 1, 1, 1, 1, math.e]) / (2 * math.e + 5)
    torch.testing.assert_close(first[0] / 2**16, expected, atol=2e-4, rtol=0)
    chances.add(torch.tensor([3, 6]))  # the fourth cell is a wall; the other set is empty
    second = chances.next(1)
    assert second[0].nonzero()[:, 0].tolist() == [4, 5, 6], "later cells, or the stop"
    chances.add(torch.tensor([6, -1]))
    third = chances.next(2)
    assert third[0].nonzero()[:, 0].tolist() == [0, 1, 2, 4, 5], "a goal on any free cell"
    assert third[1].nonzero()[:, 0].tolist() == [0, 1, 2, 3, 4, 5]
    chances.add(torch.tensor([0, 5]))
    assert chances.next(3)[0].nonzero()[:, 0].tolist() == [1, 2, 4, 5]


def test_sets_of_one_size_leave_room_for_what_must_come() -> None:
    manifold = ArielConfig(hidden=4).build(CarDomain(control_points=4), 1)
    assert manifold.dim == 4
    chances = Chances(manifold.network, 1, 16)
    assert chances.next(0)[0].nonzero()[:, 0].tolist() == list(range(97)), "three more must follow"
    chances.add(torch.tensor([96]))
    assert chances.next(1)[0].nonzero()[:, 0].tolist() == [97]


def test_hidden_values_and_weights_stay_where_sums_are_exact() -> None:
    manifold = TINY.build(SMALL, 1)
    with torch.no_grad():
        for weight in manifold.network.parameters():
            weight.mul_(1e6)
    chances = Chances(manifold.network, 3, 16)
    assert float(chances.output.abs().max()) == LARGEST
    scaled = chances.output * 2**14
    assert torch.equal(scaled, scaled.round())
    assert chances.next(0).sum(1).tolist() == [2**16] * 3
    assert NEVER < -1e6


def test_training_nears_the_entropy_of_the_domain() -> None:
    manifold = pretrain(ArielConfig(hidden=32, iterations=300, batch_size=128), SMALL, 1)
    # sizes 0, 1, 2, places of goal and agent, sets
    entropy = math.log(3) + math.log(30) + (math.log(4) + math.log(6)) / 3
    found = manifold.health()["code_length"]
    assert entropy - 0.05 < found < entropy + 0.1
    assert manifold.health()["recovery"]["task_exact"] == 1
    assert manifold.health()["prior_uniform"]["validity"] == 1
    assert manifold.health()["prior_uniform"]["hole_rate"] == 0
    assert "kl" not in manifold.health(), "there is no Gaussian posterior"


def test_a_resumed_training_ends_bit_for_bit_where_an_undisturbed_one_does() -> None:
    whole, halves = (TINY.pretraining(TINY.build(SMALL, 1), SMALL, 1) for _ in range(2))
    whole.run()
    for _ in range(5):
        halves.step()
    rest = TINY.pretraining(TINY.build(SMALL, 9), SMALL, 1)
    rest.load_state_dict(halves.state_dict())
    rest.run()
    expected, found = whole.manifold.state_dict(), rest.manifold.state_dict()
    assert all(torch.equal(expected["network"][name], found["network"][name]) for name in expected["network"])
    assert expected["measured"] == found["measured"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hidden": 0}, "hidden must be in 1..1024, got 0"),
        ({"hidden": 2_000}, "hidden must be in 1..1024, got 2000"),
        ({"dim": -1}, "dim must be at least 0, got -1"),
        ({"bits": 23}, "bits must be in 1..22, got 23"),
        ({"shuffle": True}, "shuffle must be False: the sequence model reads tasks in their canonical order"),
    ],
)
def test_bad_options_are_named(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ArielConfig(**options)  # type: ignore[arg-type]  # wrong on purpose


def test_axes_that_would_hold_too_much_are_refused() -> None:
    with pytest.raises(ValueError, match=r"2 tokens an axis of 16 bits each exceed the 22 bits .* choose dim >= 52"):
        ArielConfig(dim=30).build(MazeDomain(), 1)
    with pytest.raises(ValueError, match="choose dim >= 26"):
        ArielConfig(dim=20, bits=11).build(MazeDomain(), 1)
    with pytest.raises(ValueError, match="9 bits are too few for 170 tokens"):
        ArielConfig(bits=9).build(MazeDomain(), 1)
    assert ArielConfig(dim=26, bits=11).build(MazeDomain(), 1).dim == 26
