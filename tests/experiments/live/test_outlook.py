"""What a world model is asked of the next moments, on planted dreams; and which pixels of a dream had been seen."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from clutr.experiments.live.outlook import DRAWS, Question, ask, familiarity
from clutr.experiments.live.world_model_session import WorldModelSession
from clutr.experiments.plots.images import with_invented
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.world_model.dream import Dream, LatentState
from clutr.world_model.linear_probe import LinearProbe

STEPS = 4


class PlantedDreamer:
    """Latent 0 is the number of wheels on the road: it falls by one a step under the action -1, and stays under 0.

    Latent 1 of the draws spreads by 0.3 standard deviations a step.
    """

    scale = SimpleNamespace(normalise=lambda latents: latents)

    def dream(
        self, moment: LatentState, actions: Tensor, horizon: int, temperature: float, rng: Any, *, keep_states: bool
    ) -> Dream:
        assert (temperature, keep_states, len(actions), rng.initial_seed()) == (1.0, False, horizon, 1)
        wheels = moment.latent[:, 0] + actions[..., 0].cumsum(0)
        sign = torch.tensor([-1.0, 1.0]).repeat(wheels.shape[1] // 2)
        spread = 0.3 * torch.arange(1, horizon + 1)[:, None] * sign
        latents = torch.stack([wheels, spread], -1)
        terminations = torch.where(actions[..., 0] < 0, 0.5, 0.0)
        return Dream(latents, torch.ones_like(wheels), terminations, torch.zeros(0))


def question(**changes: Any) -> Question:
    options: dict[str, Any] = {
        "dreamer": PlantedDreamer(),
        "moment": LatentState(torch.zeros(1, 1), torch.tensor([[4.0, 0.0]])),
        "actions": {"": torch.tensor([0.0]), "left": torch.tensor([-1.0])},
        "steps": STEPS,
        "wheels": (LinearProbe(torch.tensor([[1.0], [0.0]]), torch.zeros(1), 0.0), 0),
        "active": torch.tensor([False, True]),
        "seed": 1,
    }
    return Question(**(options | changes))


def test_each_keys_risk_is_the_share_of_draws_in_which_the_car_leaves_the_road() -> None:
    found = ask(question())
    assert found.prospects[""].leaves == 0
    assert found.prospects["left"].leaves == 1, "3, 2, 1, 0 wheels"
    assert ask(question(steps=2)).prospects["left"].leaves == 0, "2 wheels are still on it"
    assert ask(question(wheels=None)).prospects["left"].leaves is None


def test_rewards_count_as_far_as_the_episode_goes_on() -> None:
    found = ask(question())
    assert (found.prospects[""].reward, found.prospects[""].ends) == (STEPS, 0)
    assert found.prospects["left"].reward == pytest.approx(1 + 0.5 + 0.25 + 0.125)
    assert found.prospects["left"].ends == pytest.approx(1 - 0.5**STEPS)


def test_draws_stay_together_until_their_spread_is_half_a_standard_deviation() -> None:
    spread = [0.3 * step * np.sqrt(DRAWS / (DRAWS - 1)) for step in (1, 2)]
    assert spread[0] < 0.5 < spread[1]
    assert ask(question()).together == 1
    assert ask(question(active=torch.tensor([True, False]))).together == STEPS, "wheels are certain"


def test_familiarity_is_a_place_among_held_out_frames() -> None:
    held_out = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert familiarity(2.5, held_out) == 0.5
    assert familiarity(0.0, held_out) == 0
    assert familiarity(9.0, held_out) == 1
    assert familiarity(None, held_out) is None, "nothing was expected of an episode's first frame"


def test_a_session_asks_of_the_moment_that_is_shown(maze_world: WorldModelRun) -> None:
    session = WorldModelSession(maze_world)
    assert session.unfamiliar() is None
    session.step()
    expected = session.question()
    assert list(expected.actions) == ["", "left", "up", "right"]
    assert torch.equal(expected.actions[""], session.episode.actions[1]), "going on as in the recording"
    assert torch.equal(expected.moment.latent, session._present().latent)
    assert expected.wheels is None
    share = session.unfamiliar()
    _, before = session.dreamer.memory.step(
        session.course.state(0), session.course.means[:1], session.episode.actions[:1]
    )
    density = before.latent.log_density(session.course.means[1:2])[..., session.dreamer.scale.active]
    assert share == pytest.approx(float((session.known.surprises < -density.mean()).float().mean()), abs=0.02)
    moves = session.moves
    session.branch()
    assert session.moves > moves
    assert session.unfamiliar() == share, "of the last frame that was seen"
    assert set(ask(session.question()).prospects) == {"", "left", "up", "right"}


def test_what_was_not_in_view_before_a_dream_is_invented(maze_world: WorldModelRun) -> None:
    session = WorldModelSession(maze_world)
    session.drive()
    session.branch()
    hidden = session.episode.masks[0] == session.objects.index("unseen")
    [visible] = session.visibilities()
    assert visible.seen is not None
    assert visible.world is not None
    assert torch.equal(~visible.seen & visible.world, hidden & visible.world), "at first, just what walls hide"
    session.step({"left"})
    session.step({"left"})
    [turned] = session.visibilities()
    assert turned.how == "by the true motion"
    assert turned.invented is not None
    assert turned.invented > 0.5, "behind the agent nothing had been seen"
    session.actions = "random"
    assert session.visibilities()[0].invented is None
    assert "goes its own way" in session.visibilities()[0].how


def test_a_core_with_a_map_says_itself_what_it_saw(maze_world: WorldModelRun, monkeypatch: pytest.MonkeyPatch) -> None:
    session = WorldModelSession(maze_world)
    session.branch()
    told = torch.zeros(1, 5, 5)
    told[0, -1] = 1.0
    monkeypatch.setattr(session.dreamer.memory, "seen", lambda _: told)
    [visible] = session.visibilities()
    assert visible.how == "by the model's own map"
    assert visible.invented == pytest.approx(0.8, abs=0.02), "the nearest of five rows of cells was seen"


def test_invented_pixels_alone_are_tinted() -> None:
    picture = np.full((4, 4, 3), 100, np.uint8)
    invented = np.zeros((4, 4), bool)
    invented[1, :] = True
    shown = with_invented(picture, invented)
    assert (shown[[0, 2, 3]] == 100).all()
    assert (shown[1] != 100).any(-1).all()
    assert len(np.unique(shown[1], axis=0)) == 2, "in two shades, for those who see no colours"
