"""A world model under a person's hands: what is shown is what recording, memory and simulator say."""

import pytest
import torch

from clutr.experiments.live.views import COPIED
from clutr.experiments.live.world_model_session import MOST_BRANCHES, WorldModelSession
from clutr.experiments.storage import RunError
from clutr.experiments.world_model.config import WORLD_PRESETS
from clutr.experiments.world_model.episodes import RecordedEpisode, SimulatedEpisode, level_of
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.world_model.dataset import EpisodeDataset
from clutr.world_model.dream import LatentState


@pytest.fixture
def session(maze_world: WorldModelRun) -> WorldModelSession:
    found = WorldModelSession(maze_world)
    for number in range(found.choices()["test"]):  # one that is long enough for all tests
        found.select("test", number)
        if len(found.episode.frames) >= 12:
            return found
    raise AssertionError("no test episode has 12 frames")


def test_what_is_seen_is_the_recording_and_its_reconstruction(session: WorldModelSession) -> None:
    session.step()
    session.step()
    view = session.view()
    assert (view.frame, view.dreaming, view.dreams) == (2, False, [])
    frame = session.episode.frames[2]
    assert torch.equal(torch.from_numpy(view.reality), frame)
    again = session.model.backbone.decode(session.model.backbone.encode(frame[None])[0]).clamp(0, 1)
    torch.testing.assert_close(torch.from_numpy(view.reconstruction).float(), again[0] * 255, atol=0.51, rtol=0)
    assert [reading.true for reading in view.readings] == session.episode.privileged_state[2].tolist()
    assert view.mean_error == pytest.approx(
        float((torch.from_numpy(view.reconstruction).float() - frame.float()).square().mean().sqrt()), rel=1e-5
    )


def test_a_dream_is_that_of_the_memory_under_the_recorded_actions(session: WorldModelSession) -> None:
    for _ in range(4):
        session.step()
    session.branch()
    for _ in range(3):
        session.step()
    latents = session.model.backbone.encode(session.episode.frames)[0][:, None]
    state, _ = session.dreamer.observe(latents[:5], session.episode.actions[:4, None])
    expected = session.dreamer.dream(state, session.episode.actions[4:7, None], 3)
    torch.testing.assert_close(torch.stack(session.branches[0].latents), expected.latents[:, 0])
    goes_on = torch.cat([torch.ones(1), (1 - expected.terminations[:-1, 0]).cumprod(0)])
    view = session.view()
    assert view.rewards[0] == pytest.approx(float((expected.rewards[:, 0] * goes_on).sum()), rel=1e-4, abs=1e-6)
    assert view.alive[0] == pytest.approx(float((1 - expected.terminations[:, 0]).prod()), rel=1e-5)
    assert view.dreaming
    assert view.frame == 7


def test_a_branch_leaves_the_first_dream_where_it_is(session: WorldModelSession) -> None:
    session.step()
    session.branch()
    session.step()
    session.branch()
    first, second = session.branches
    assert torch.equal(first.state.latent, second.state.latent)
    assert second.dreamt == 1
    session.edit(0, 2.5)
    assert float(session.branches[0].state.latent[0, 0]) == 2.5
    assert not torch.equal(session.branches[0].state.latent, second.state.latent)
    while len(session.branches) < MOST_BRANCHES:
        session.branch()
    with pytest.raises(RunError, match="4 dreams are shown at most: wake up first"):
        session.branch()


def test_drawn_latents_part_dreams_and_the_horizon_ends_them(session: WorldModelSession) -> None:
    session.temperature, session.horizon = 1.0, 3
    session.step()
    session.branch()
    session.branch()
    for _ in range(5):
        session.step()
    assert [branch.dreamt for branch in session.branches] == [3, 3]
    assert not torch.equal(session.branches[0].state.latent, session.branches[1].state.latent)
    assert session.finished
    session.stop()
    assert not session.dreaming


def test_a_changed_latent_is_seen_and_dreamt_on_from(session: WorldModelSession) -> None:
    before = session.view().reconstruction
    session.edit(session.known.order[0], 3.0)
    view = session.view()
    assert not (view.reconstruction == before).all()
    assert view.latents[session.known.order[0]] == 3.0
    session.branch()
    assert float(session.branches[0].state.latent[0, session.known.order[0]]) == 3.0
    session.seek(0)
    assert (session.view().reconstruction == before).all()


def test_in_dreams_a_person_may_steer(session: WorldModelSession) -> None:
    session.actions = "wheel"
    session.step()
    start = session._present()
    session.branch()
    session.step({"right"})
    turned, _ = session.dreamer.step(start, torch.eye(7)[[1]], None)
    assert torch.equal(session.branches[0].state.latent, turned.latent)
    assert torch.equal(session.wheel(()), torch.eye(7)[6]), "without a key nothing is done"


def test_a_random_walk_dreams_apart_from_reality(session: WorldModelSession) -> None:
    session.actions = "random"
    session.step()
    session.branch()
    session.step()
    assert session.branches[0].dreamt == 1


def test_the_simulator_plays_the_episodes_own_level(session: WorldModelSession) -> None:
    recorded = session.episode
    session.drive()
    assert isinstance(session.episode, SimulatedEpisode)
    assert torch.equal(session.episode.frames[0], recorded.frames[0]), "an episode in a maze begins as its level does"
    for time in range(3):
        action = int(recorded.actions[time].argmax())
        key = {0: "left", 1: "right", 2: "up"}.get(action)
        session.episode.advance(recorded.actions[time]) if key is None else session.step({key})
        assert torch.equal(session.episode.frames[time + 1], recorded.frames[time + 1])
        if key is None:
            return
    state = LatentState(session.course.state(3), session.course.means[[3]])
    latents = session.model.backbone.encode(recorded.frames[:4])[0][:, None]
    expected, _ = session.dreamer.observe(latents, recorded.actions[:3, None])
    torch.testing.assert_close(state.state, expected.state)


def test_driving_ends_with_the_episode(session: WorldModelSession) -> None:
    session.drive()
    for _ in range(60):
        session.step({"up"})
    assert isinstance(session.episode, SimulatedEpisode)
    assert session.episode.over
    assert len(session.episode.frames) == len(session.episode.actions) + 1 <= 22
    assert session.frame == len(session.episode.frames) - 1


def test_a_car_is_driven(car_world: WorldModelRun) -> None:
    session = WorldModelSession(car_world)
    torch.testing.assert_close(session.wheel({"left", "up"}), torch.tensor([-0.6, 1.0, 0.0]))
    torch.testing.assert_close(session.wheel({"right", "down"}), torch.tensor([0.6, 0.0, 0.8]))
    session.drive()
    for _ in range(8):
        session.step({"up"})
    speed = session.quantities.index("forward_speed")
    assert float(session.episode.privileged_state[-1, speed]) > float(session.episode.privileged_state[0, speed]) + 1


def test_pixels_are_explained(session: WorldModelSession) -> None:
    session.step()
    for method in ("gradient x input", "occlusion"):
        relevance = session.explain(method, "reward")
        assert relevance.shape == session.view().reality.shape[:2]
        assert abs(relevance).max() > 0
    with pytest.raises(RunError, match="no explanation by 'magic' of 'reward'"):
        session.explain("magic", "reward")
    session.seek(10_000)
    with pytest.raises(RunError, match="the last frame says nothing of what comes"):
        session.explain("occlusion", "reward")


def test_messages(
    session: WorldModelSession, maze_world: WorldModelRun, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with pytest.raises(RunError, match=r"the split test has \d+ episodes, numbered from 0: no 99"):
        session.select("test", 99)
    untrained = WorldModelRun.create(tmp_path_factory.mktemp("none"), WORLD_PRESETS["maze-debug"])
    with pytest.raises(RunError):
        WorldModelSession(untrained)
    dataset = maze_world.dataset()
    episode = dataset.played("train")[0]
    stolen = type(episode)(episode.part, episode.first, episode.rows, "0" * 16, episode.policy)
    with pytest.raises(RunError, match="does not hold the level 0000000000000000"):
        level_of(dataset, maze_world.experiment.domain, stolen)
    elsewhere = EpisodeDataset(dataset.path)
    elsewhere.path = tmp_path_factory.mktemp("elsewhere")
    with pytest.raises(RunError, match="the dataset does not hold the levels of its episodes"):
        level_of(elsewhere, maze_world.experiment.domain, episode)
    assert not RecordedEpisode(dataset, episode).advance(torch.zeros(7)), "what was recorded does not change"


def test_a_dream_is_compared_with_the_real_frame_of_the_same_step(session: WorldModelSession) -> None:
    session.step()
    session.branch()
    for _ in range(3):
        session.step()
    view = session.view()
    frames = session.episode.frames.float()
    assert view.error is not None
    assert view.mean_error == pytest.approx(float((frames[4] - torch.tensor(view.dreams[0])).square().mean().sqrt()))
    assert len(view.errors["dream 1"]) == 3
    assert view.errors["dream 1"][-1] == pytest.approx(view.mean_error)
    copied = [float((frames[time] - frames[1]).square().mean().sqrt()) for time in (2, 3, 4)]
    assert view.errors[COPIED] == pytest.approx(copied)
    session.step()
    assert len(session.view().errors["dream 1"]) == 4


def test_a_dream_beyond_its_horizon_is_compared_with_nothing(session: WorldModelSession) -> None:
    session.horizon = 2
    session.branch()
    for _ in range(2):
        session.step()
    assert session.aligned
    session.step()
    view = session.view()
    assert not session.aligned
    assert (view.error, view.mean_error) == (None, None)
    assert len(view.errors["dream 1"]) == 2


def test_a_dream_beyond_the_recordings_end_is_compared_with_nothing(session: WorldModelSession) -> None:
    session.seek(len(session.episode.frames) - 2)
    session.branch()
    session.step()
    assert session.aligned
    session.step()
    assert session.branches[0].dreamt == 2
    view = session.view()
    assert view.error is None
    assert len(view.errors["dream 1"]) == 1


def test_each_dream_has_a_random_walk_of_its_own(session: WorldModelSession) -> None:
    session.branch()
    session.branch()
    first, second = (branch.walk for branch in session.branches)
    assert first is not second
    first._now[0] = 5
    assert int(second._now[0]) == 0


def test_changes_are_taken_back(session: WorldModelSession) -> None:
    before = session.view().reconstruction
    session.edit(session.known.order[0], 3.0)
    session.forget_edits()
    assert (session.view().reconstruction == before).all()
