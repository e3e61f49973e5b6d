"""What every registered domain must offer, and what each capability that it has must do."""

from dataclasses import FrozenInstanceError, fields, is_dataclass

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from clutr.envs.capabilities import (
    SIDE,
    Mutation,
    OptimalReturn,
    Parameters,
    PathDrawing,
    PrivilegedState,
    Text,
    Tokens,
    require,
)
from clutr.envs.domain import DOMAINS, Domain, LevelBatch, LevelError, SeedLevels, Task

NAMES = list(DOMAINS)


@pytest.fixture(params=NAMES)
def domain(request: pytest.FixtureRequest) -> Domain:
    return DOMAINS[request.param]()


def having(capability: type[Domain]) -> pytest.MarkDecorator:
    """Run a test on every domain that has a capability."""
    domains = [(name, DOMAINS[name]()) for name in NAMES]
    return pytest.mark.parametrize(
        "domain", [pytest.param(domain, id=name) for name, domain in domains if isinstance(domain, capability)]
    )


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same(one: LevelBatch, other: LevelBatch) -> bool:
    tensors = other.tensors()
    return all(torch.equal(value, tensors[name]) for name, value in one.tensors().items())


def actions_for(task: Task, n: int) -> torch.Tensor:
    space = task.engine(1).action_space
    space.seed(0)
    return torch.stack([torch.as_tensor(space.sample()) for _ in range(n)])


def test_there_is_a_domain() -> None:
    assert "maze" in NAMES


def test_options_are_a_frozen_dataclass(domain: Domain) -> None:
    assert is_dataclass(domain)
    with pytest.raises(FrozenInstanceError):
        setattr(domain, fields(domain)[0].name, None)


def test_sampled_levels_are_of_the_domains_type(domain: Domain) -> None:
    levels = domain.sample(7, generator())
    assert type(levels) is domain.level_type
    assert len(levels) == 7
    assert all(value.shape[0] == 7 for value in levels.tensors().values())
    assert same(levels, domain.sample(7, generator()))


def test_levels_join_split_and_keep_their_keys(domain: Domain) -> None:
    levels = domain.sample(6, generator())
    keys = levels.key()
    assert all(len(key) == 16 and int(key, 16) >= 0 for key in keys)
    assert len(set(keys)) == 6
    assert [levels[i].key()[0] for i in range(6)] == keys
    assert levels[-1].key() == keys[-1:]
    parts = type(levels).concatenate([levels[:2], levels[2:]])
    assert same(parts, levels)
    assert parts.key() == keys
    assert type(levels).from_tensors(levels.tensors()).key() == keys


@having(Tokens)
def test_tokens_round_trip(domain: Tokens) -> None:
    levels = domain.sample(200, generator())
    tokens = domain.to_tokens(levels)
    assert tokens.shape == (200, domain.max_tokens)
    assert tokens.dtype == torch.int64
    assert int(tokens.min()) >= 0
    assert int(tokens.max()) <= domain.vocabulary
    padding = tokens == 0
    assert not bool((padding[:, :-1] & ~padding[:, 1:]).any()), "padding stands only on the right"
    back, repairs = domain.from_tokens(tokens)
    assert torch.equal(domain.to_tokens(back), tokens)
    assert all(count.shape == (200,) and not bool(count.any()) for count in repairs.counts.values())


@having(Tokens)
def test_the_token_grid_has_a_cell_for_each_content_token(domain: Tokens) -> None:
    rows, columns = domain.token_grid
    assert rows * columns == domain.vocabulary


@having(Tokens)
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_every_token_sequence_gives_a_level(domain: Tokens, data: st.DataObject) -> None:
    batch, length = data.draw(st.integers(1, 4)), data.draw(st.integers(0, domain.max_tokens + 5))
    token = st.integers(-5, domain.vocabulary + 5) | st.integers(1, 4) | st.sampled_from([-(2**62), 2**62])
    rows = data.draw(st.lists(st.lists(token, min_size=length, max_size=length), min_size=batch, max_size=batch))
    tokens = torch.tensor(rows, dtype=torch.int64).view(batch, length)
    levels, repairs = domain.from_tokens(tokens)
    assert len(levels) == batch
    assert all(count.dtype == torch.int64 and bool((count >= 0).all()) for count in repairs.counts.values())
    # What was built is canonical: written and read again it stays as it is, heading included.
    again, later = domain.from_tokens(domain.to_tokens(levels))
    assert same(again, levels)
    assert not any(bool(count.any()) for count in later.counts.values())
    assert same(domain.from_tokens(tokens)[0], levels)


@having(Tokens)
def test_decoding_does_not_depend_on_the_batch(domain: Tokens) -> None:
    tokens = torch.randint(-2, domain.vocabulary + 3, (30, domain.max_tokens), generator=generator())
    together, _ = domain.from_tokens(tokens)
    alone = domain.level_type.concatenate([domain.from_tokens(tokens[i : i + 1])[0] for i in range(30)])
    assert same(together, alone)


@having(Text)
def test_text_round_trip(domain: Text) -> None:
    levels = domain.sample(5, generator())
    back = domain.parse(domain.format(levels))
    assert same(back, levels)
    assert back.key() == levels.key()


@having(Text)
@pytest.mark.parametrize("source", ["", "nonsense", "{", "[]", "[1]", "{}", "null", "\x00\xff", "[" * 5000])
def test_unreadable_text_is_a_level_error_that_names_a_line(domain: Text, source: str) -> None:
    with pytest.raises(LevelError, match=r"line \d+: \w"):
        domain.parse(source)


@having(Mutation)
def test_mutations_are_levels_that_follow_their_generator(domain: Mutation) -> None:
    levels = domain.sample(40, generator())
    before = levels.key()
    edited = domain.mutate(levels, 3, generator(1))
    assert type(edited) is type(levels)
    assert same(edited, domain.mutate(levels, 3, generator(1)))
    assert sum(one != other for one, other in zip(edited.key(), before, strict=True)) > 20
    assert levels.key() == before
    domain.engine(40).reset(edited)


@having(PrivilegedState)
def test_observers_tell_pictures_objects_and_the_true_state(domain: PrivilegedState) -> None:
    engine = domain.engine(3)
    engine.reset(domain.sample(3, torch.Generator().manual_seed(1)))
    observer = domain.observer(engine)
    observer.reset()
    pictures, masks, state = observer.pictures(), observer.masks(), observer.privileged_state()
    assert (pictures.shape, pictures.dtype) == ((3, SIDE, SIDE, 3), torch.uint8)
    assert (masks.shape, masks.dtype) == ((3, SIDE, SIDE), torch.uint8)
    assert masks.max() < len(observer.objects)
    assert list(state) == list(observer.quantities)
    for name, values in state.items():
        assert (values.shape, values.dtype) == ((3,), torch.float32), name
        assert values.isfinite().all(), name
    with pytest.raises(TypeError, match="the observer looks at a "):
        domain.observer(object())  # type: ignore[arg-type]


def test_descriptions_are_a_number_a_level(domain: Domain) -> None:
    facts = domain.describe(domain.sample(20, generator()))
    assert all(fact.shape == (20,) and fact.dtype == torch.float32 for fact in facts.values())
    assert set(facts["solvable"].tolist()) <= {0.0, 1.0}


def settings_of(domain: Parameters, *shares: float) -> torch.Tensor:
    """A row a share: every parameter at that share of its range."""
    return torch.tensor([[one.low + share * (one.high - one.low) for one in domain.parameters] for share in shares])


@having(Parameters)
def test_parameters_have_names_ranges_and_descriptions(domain: Parameters) -> None:
    assert domain.parameters
    assert len({one.name for one in domain.parameters}) == len(domain.parameters)
    assert all(one.low <= one.high and one.name.isidentifier() and one.about for one in domain.parameters)


@having(Parameters)
def test_levels_are_drawn_at_parameters_and_follow_their_generator(domain: Parameters) -> None:
    wanted = settings_of(domain, *torch.rand(40, generator=generator()).tolist())
    levels = domain.sample_at(wanted, generator(1))
    assert type(levels) is domain.level_type
    assert len(levels) == 40
    assert same(levels, domain.sample_at(wanted, generator(1)))
    assert same(levels, domain.sample_at(wanted.double(), generator(1)))
    assert levels.key() != domain.sample_at(wanted, generator(2)).key()
    domain.engine(40).reset(levels)
    if isinstance(domain, Tokens):
        _, repairs = domain.from_tokens(domain.to_tokens(levels))
        assert not any(bool(count.any()) for count in repairs.counts.values()), "they are levels that tokens can write"
    assert len(domain.sample_at(wanted[:0], generator())) == 0


@having(Parameters)
def test_parameters_out_of_range_count_as_the_end_that_they_passed(domain: Parameters) -> None:
    beyond = torch.tensor([[-1e30] * len(domain.parameters), [1e30] * len(domain.parameters)])
    levels = domain.sample_at(settings_of(domain, 0.0, 1.0), generator())
    assert same(domain.sample_at(beyond, generator()), levels)


@having(Parameters)
def test_parameters_that_are_none_are_refused(domain: Parameters) -> None:
    size = len(domain.parameters)
    for wrong in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="parameters must be finite"):
            domain.sample_at(torch.full((2, size), wrong), generator())
    with pytest.raises(ValueError, match=rf"parameters must be \[n, {size}\], got \[{size}\]"):
        domain.sample_at(torch.zeros(size), generator())
    with pytest.raises(ValueError, match=rf"parameters must be \[n, {size}\], got \[2, {size + 1}\]"):
        domain.sample_at(torch.zeros(2, size + 1), generator())


@having(OptimalReturn)
def test_optimal_returns_are_a_number_a_level(domain: OptimalReturn) -> None:
    levels = domain.sample(20, generator())
    best = domain.optimal_return(levels)
    assert best.shape == (20,)
    assert best.dtype == torch.float32
    assert best.isfinite().all()
    assert torch.equal(best[3:5], domain.optimal_return(levels[3:5]))
    assert domain.optimal_return(levels[:0]).shape == (0,)


def test_pictures(domain: Domain) -> None:
    pictures = domain.render(domain.sample(3, generator()))
    assert pictures.dtype == torch.uint8
    assert pictures.ndim == 4
    assert pictures.shape[0] == 3
    assert pictures.shape[3] == 3
    assert int(pictures.max()) > int(pictures.min())


def test_engines_play(domain: Domain) -> None:
    n = 4
    engine = domain.engine(n)
    assert engine.num_envs == n
    levels = domain.sample(n, generator())
    start = engine.reset(levels)
    assert set(start) == set(engine.observation_space.spaces)
    engine.action_space.seed(0)
    actions = torch.stack([torch.as_tensor(engine.action_space.sample()) for _ in range(n)])
    for _ in range(5):
        observation, reward, terminated, truncated = engine.step(actions)
        for name, space in engine.observation_space.spaces.items():
            assert observation[name].shape == (n, *(space.shape or ()))
            assert all(space.contains(one.numpy().astype(space.dtype)[()]) for one in observation[name])
        assert reward.shape == terminated.shape == truncated.shape == (n,)
        assert reward.dtype == torch.float32
        assert terminated.dtype == truncated.dtype == torch.bool
    again = engine.reset()
    assert all(torch.equal(again[name], start[name]) for name in start)


@having(PathDrawing)
def test_paths_are_drawn_on_levels(domain: PathDrawing) -> None:
    engine = domain.engine(2)
    levels = domain.sample(2, generator())
    engine.reset(levels)
    engine.action_space.seed(0)
    positions = [engine.agent_position]
    for _ in range(4):
        engine.step(torch.stack([torch.as_tensor(engine.action_space.sample()) for _ in range(2)]))
        positions.append(engine.agent_position)
    assert engine.solved.shape == (2,)
    assert engine.solved.dtype == torch.bool
    path = torch.stack(positions, 1)
    path[1, 3:] = torch.nan if path.is_floating_point() else -1
    drawn = domain.draw_paths(levels, path)
    assert drawn is not None
    assert drawn.pictures.dtype == torch.uint8
    assert drawn.pictures.shape[0] == len(drawn.remarks) == 2
    assert drawn.about.endswith(".")
    assert domain.draw_paths(SeedLevels(torch.tensor([1])), path[:1]) is None


def test_engines_reset_only_the_masked_environments(domain: Domain) -> None:
    engine = domain.engine(3)
    levels = domain.sample(3, generator())
    start = engine.reset(levels)
    engine.action_space.seed(1)
    actions = torch.stack([torch.as_tensor(engine.action_space.sample()) for _ in range(3)])
    for _ in range(3):
        played = engine.step(actions).observation
    mixed = engine.reset(None, torch.tensor([True, False, True]))
    for name in start:
        assert torch.equal(mixed[name][[0, 2]], start[name][[0, 2]])
        assert torch.equal(mixed[name][1], played[name][1])


def test_every_task_of_every_suite_can_be_made_and_stepped(domain: Domain) -> None:
    suites = domain.suites()
    assert suites
    missing = []
    for name, suite in suites.items():
        assert suite.name == name
        assert suite.tasks
        assert len({task.name for task in suite.tasks}) == len(suite.tasks)
        for task in suite.tasks:
            engine = task.engine(2)
            try:
                levels = task.draw(2, generator())
            except LevelError as error:  # made of files that a machine need not have
                missing.append(f"{task.name}: {error}")
                continue
            assert len(levels) == 2
            assert levels.key() == task.draw(2, generator()).key()
            engine.reset(levels)
            assert engine.step(actions_for(task, 2)).reward.shape == (2,)
            assert suite[task.name] is task
        with pytest.raises(KeyError, match="has no level 'nowhere'; it has: "):
            suite["nowhere"]
    if missing:
        pytest.skip(f"{len(missing)} tasks are not on this machine, the first: {missing[0]}")


def test_a_missing_capability_is_named_with_the_domain() -> None:
    class Bare:
        def parse(self, source: str) -> None: ...

    with pytest.raises(ValueError, match=r"^an editor needs a domain with the capability Text, but Bare has no format"):
        require(Bare(), Text, "an editor")  # type: ignore[arg-type]
