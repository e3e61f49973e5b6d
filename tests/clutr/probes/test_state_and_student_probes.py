"""What models know: probes of recordings whose truth is known, and of maze students beside their controls."""

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from clutr.agents.ppo import PPOConfig
from clutr.envs.maze.domain import MazeDomain
from clutr.probes.causal import causal_effects, collect_starts
from clutr.probes.state_probes import StateProbeData, collect, grid_cells, is_known, pixel_pca, probe_state
from clutr.probes.student_probes import is_remembered, probe_memory
from clutr.probes.student_steps import StudentSteps
from clutr.probes.student_steps import collect as collect_steps
from clutr.world_model.cores.lstm_gru import LSTMConfig
from clutr.world_model.dataset import EpisodeDataset, Part, describe, write_part
from clutr.world_model.dream import Dreamer
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.memory import MemoryConfig, Scale

D, EPISODES, LENGTH = 3, 8, 12


def generator(seed: int = 1) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def world(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[EpisodeDataset, list[tuple[object, LatentEpisode]], Dreamer]:
    """Episodes whose latents are the truth x, y and speed; frames show x."""
    folder: Path = tmp_path_factory.mktemp("recording")
    rng = generator()
    rows = EPISODES * (LENGTH + 1)
    privileged_state = torch.randn(rows, 3, generator=rng)
    frames = (128 + 20 * privileged_state[:, 0]).clamp(0, 255).byte()[:, None, None, None].expand(-1, 8, 8, 3).clone()
    part = Part(
        frames, torch.zeros(rows, 8, 8, dtype=torch.uint8), torch.rand(rows, 1, generator=rng), torch.zeros(rows),
        torch.zeros(rows, dtype=torch.uint8), privileged_state, torch.arange(EPISODES).repeat_interleave(LENGTH + 1),
    )  # fmt: skip
    write_part(folder / "part-0000.arrow", part)
    about = describe(8, 1, {"x": "", "y": "", "speed": ""}, ("ground",), discrete=0)
    known = [{"rows": LENGTH + 1, "key": f"level {n}", "policy": "walk"} for n in range(EPISODES)]
    about["parts"] = [{"rows": rows, "episodes": known}]
    (folder / "recording.json").write_text(json.dumps(about))
    dataset = EpisodeDataset(folder)
    pairs = []
    for episode in dataset.episodes:
        mine = torch.arange(episode.first, episode.first + episode.rows)
        seen = LatentEpisode(
            privileged_state[mine], torch.zeros(LENGTH + 1, D), dataset.column("actions", mine[:-1]),
            torch.zeros(LENGTH), torch.zeros(LENGTH),
        )  # fmt: skip
        pairs.append((episode, seen))
    memory = MemoryConfig(core=LSTMConfig(width=6), gaussians=1).build(D, 1, 1)
    return dataset, pairs, Dreamer(memory, Scale(torch.zeros(D), torch.ones(D), torch.ones(D), 1.0))  # type: ignore[return-value]


def test_what_is_collected_belongs_together(world: tuple[EpisodeDataset, list, Dreamer]) -> None:  # type: ignore[type-arg]
    dataset, pairs, dreamer = world
    found = collect(dataset, pairs, {"trained": dreamer, "control": dreamer}, 4, 1_000, generator())
    count = EPISODES * LENGTH
    assert set(found.representations) == {"latents", "features, trained", "cells, trained", "features, control"}
    assert all(len(values) == count for values in found.representations.values())
    (
        torch.testing.assert_close(found.privileged_state, found.representations["latents"]),
        "the latents are the truth here",
    )
    torch.testing.assert_close(dataset.column("privileged_state", found.rows), found.privileged_state)
    known = ~found.ahead.isnan().any(1)
    assert int(known.sum()) == EPISODES * (LENGTH - 3)
    torch.testing.assert_close(dataset.column("privileged_state", found.rows[known] + 4), found.ahead[known])
    first = pairs[0][1]
    inputs = torch.cat([first.mean[:-1], first.actions], 1)[:, None]
    with torch.no_grad():
        _, features = dreamer.memory.core.scan(dreamer.memory.initial_state(1), inputs)
    torch.testing.assert_close(found.representations["features, trained"][:LENGTH], features[:, 0])
    assert len(collect(dataset, pairs, {"trained": dreamer}, 4, 20, generator()).privileged_state) < 50
    modes = pixel_pca(dataset, found.rows, 1, 0)
    correlation = torch.corrcoef(torch.stack([modes[:, 0], found.privileged_state[:, 0]]))[0, 1]
    assert abs(float(correlation)) > 0.99


def test_what_is_there_is_read(world: tuple[EpisodeDataset, list, Dreamer]) -> None:  # type: ignore[type-arg]
    dataset, pairs, dreamer = world
    found = collect(dataset, pairs, {"trained": dreamer}, 4, 1_000, generator())
    readings, probes = probe_state(found, dataset.quantities, 1)
    by_name = {(each.representation, each.quantity, each.when): each for each in readings}
    assert by_name["latents", "speed", "now"].score.low > 0.999
    assert by_name["latents", "speed", "4 ahead"].score.low < 0.05
    assert by_name["latents", "speed", "now"].levels == EPISODES
    assert by_name["latents", "speed", "4 ahead"].rows == EPISODES * (LENGTH - 3)
    assert set(probes) == {
        f"{name} {when}" for name in ("latents", "features, trained", "cells, trained") for when in ("now", "4 ahead")
    }
    short = StateProbeData(
        found.representations, found.privileged_state, torch.full_like(found.ahead, math.nan), found.groups,
        found.cells, found.rows, 50, found.visible, found.visible_ahead,
    )  # fmt: skip
    assert {each.when for each in probe_state(short, dataset.quantities, 1)[0]} == {"now"}
    hidden = found.visible.clone()
    hidden[:, 2] = False
    blind = StateProbeData(**vars(found) | {"visible": hidden})
    told = {
        (each.representation, each.quantity, each.when): each for each in probe_state(blind, dataset.quantities, 1)[0]
    }
    speed = told["latents", "speed", "now"]
    assert speed.plain()["why"] == "cannot be seen: in view in 0% of the steps"
    assert not is_known(speed)
    assert told["latents", "x", "now"].score.low > 0.999


def test_what_can_be_seen_is_said_by_the_masks(world: tuple[EpisodeDataset, list, Dreamer]) -> None:  # type: ignore[type-arg]
    dataset, pairs, dreamer = world
    everything = collect(dataset, pairs, {"trained": dreamer}, 4, 1_000, generator(), {"speed": "ground"})
    assert bool(everything.visible.all()), "masks are all ground"
    assert torch.equal(everything.visible_ahead.any(1), ~everything.ahead.isnan().any(1))


def test_grid_cells() -> None:
    privileged_state = torch.tensor([[9.0, 0.0, 0.0], [9.0, 1.0, 1.0], [9.0, 0.1, 1.1], [9.0, 1.1, 0.1]])
    found = grid_cells(privileged_state, ("speed", "x", "y"), bins=2)
    assert found[0] != found[1]
    assert len(found.unique()) == 4
    assert grid_cells(privileged_state, ("speed", "row", "column"), bins=2).tolist() == found.tolist()


def test_moments_to_push_are_recorded_ones(world: tuple[EpisodeDataset, list, Dreamer]) -> None:  # type: ignore[type-arg]
    dataset, pairs, dreamer = world
    starts = collect_starts(dataset, pairs, dreamer, 2, 40, generator())
    assert starts.states.shape == (40, 12)
    assert starts.actions.shape == (2, 40, 1)
    torch.testing.assert_close(starts.quantities, starts.latents), "the latents are the truth here"
    every = torch.cat([seen.mean for _, seen in pairs])
    row = int((every == starts.latents[0]).all(1).nonzero())
    torch.testing.assert_close(starts.before[0], every[row - 1])
    torch.testing.assert_close(starts.later[0], every[row + 2])
    effects = causal_effects(dreamer, starts, dataset.quantities, generator(), known=("speed",))
    assert [each.quantity for each in effects] == ["x", "y", "speed"]
    assert not any(each.passed for each in effects), "white noise does not last"
    assert effects[0].why == "not asked: the memory tells no more of it than its controls"
    assert effects[2].why.endswith("of it lasts so long in the recordings")
    assert set(effects[2].plain()) >= {"quantity", "score", "slope", "recorded", "control", "copied", "asked"}
    with pytest.raises(ValueError, match="fewer than 3 levels have enough steps to dream 12 on"):
        collect_starts(dataset, pairs, dreamer, 12, 5, generator())


# --- students


def test_a_walk_is_what_the_student_saw_and_remembered() -> None:
    domain = MazeDomain(height=5, width=5, max_obstacles=5, max_steps=20)
    engine = domain.engine(1)
    config = PPOConfig(hidden=8, head=8, torso="symbols", torso_width=8)
    student, *untrained = (
        config.build(engine.observation_space, engine.action_space, seed, "student") for seed in (1, 2, 3)
    )
    found, moments = collect_steps(domain, student, untrained, levels=12, seed=1)
    assert len(found.groups.unique()) == 12
    assert found.representations["hidden"].shape[1] == 8
    assert found.representations["view"].shape[1] == 25 * 11 + 4
    assert moments.steps[moments.groups == 0].tolist() == list(range(int((found.groups == 0).sum())))
    left = found.privileged_state[:, found.quantities.index("actions_to_goal")]
    solvable = left[found.counted[:, found.quantities.index("actions_to_goal")]]
    assert float(solvable.min()) >= 1, "there is something left to do"
    rows, columns = (found.privileged_state[:, found.quantities.index(name)].long() for name in ("row", "column"))
    assert torch.equal(found.cells // 4, rows * 5 + columns)
    here = found.visited.gather(1, (found.cells // 4)[:, None])
    assert bool((here == 1).all()), "where it stands it has been"
    share = found.privileged_state[:, found.quantities.index("visited")]
    torch.testing.assert_close(found.visited.sum(1) / 25, share)
    for level in range(12):
        mine = found.visited[found.groups == level]
        assert bool((mine[1:] >= mine[:-1]).all()), "nobody forgets where it has been"
    again, _ = collect_steps(domain, student, untrained, levels=12, seed=1)
    assert torch.equal(again.representations["hidden"], found.representations["hidden"])
    result = probe_memory(found, 1)
    assert {each["representation"] for each in result["readings"]} == {
        "view", "hidden", "cells", "untrained hidden", "untrained hidden 2",
    }  # fmt: skip
    assert result["levels"] == 12
    with pytest.raises(ValueError, match="only students of this library's PPO can be probed, not SimpleNamespace"):
        collect_steps(domain, SimpleNamespace(network=None), untrained, 4, 1)


def test_memory_is_what_neither_view_nor_chance_tells() -> None:
    rng = generator()
    privileged_state = torch.randn(400, 2, generator=rng)
    noise = torch.randn(400, 6, generator=rng)
    walks = StudentSteps(
        {
            "view": torch.cat([privileged_state[:, 1:], noise], 1),
            "hidden": torch.cat([privileged_state, noise], 1),
            "cells": noise,
            "untrained hidden": noise,
        },
        privileged_state,
        ["place", "in_view"],
        (privileged_state[:, :1] > 0).float().expand(-1, 3),
        torch.arange(400) // 20,
        torch.randint(0, 10, (400,), generator=rng),
        torch.ones(400, 2, dtype=torch.bool),
    )
    found = probe_memory(walks, 1)["memory"]
    assert found["place"]["hidden"][1] > 0.99
    assert found["place"]["beyond_view"][1] > 0.9
    assert abs(found["in_view"]["beyond_view"][0]) < 0.01
    assert found["in_view"]["beyond_untrained"][1] > 0.9
    assert found["visited cells"]["beyond_view"][1] > 0.4
    assert is_remembered(found["place"])
    assert not is_remembered(found["in_view"])
    assert not is_remembered(found["place"] | {"beyond_untrained": [0.2, -0.01, 0.4]}), "the interval decides"
