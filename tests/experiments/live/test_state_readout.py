"""What a page has to know before it shows a step: episodes side by side are read as one by one."""

import torch

from clutr.experiments.live.state_readout import _some, learn_about, surprise_of
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training import MEMORIES, load_world_model
from clutr.world_model.linear_probe import fit_probe


def test_episodes_of_different_lengths_go_side_by_side(maze_world: WorldModelRun) -> None:
    model, dataset = load_world_model(maze_world), maze_world.dataset()
    dreamer = model.dreamers[MEMORIES[0]]
    found = learn_about(model.backbone, dreamer, dataset)
    memory, scale = dreamer.memory, dreamer.scale
    features, truths, surprises = [], [], []
    with torch.no_grad():
        for episode in _some(dataset, "train"):
            normal = scale.normalise(model.backbone.encode(episode.frames)[0])
            inputs = torch.cat([normal[:-1], episode.actions], 1)[:, None]
            features.append(memory.core.scan(memory.initial_state(1), inputs)[1][:, 0])
            truths.append(episode.privileged_state[:-1])
        for episode in _some(dataset, "test"):
            normal = scale.normalise(model.backbone.encode(episode.frames)[0])[:, None]
            _, expected = memory.scan(memory.initial_state(1), normal[:-1], episode.actions[:, None])
            surprises.append(surprise_of(expected.latent, normal[1:], scale.active)[:, 0])
    assert len({len(each) for each in features}) > 1, "some episodes end early"
    told = torch.cat(features)
    one_by_one = fit_probe(told, torch.cat(truths), 1e-2)
    torch.testing.assert_close(found.probe(told), one_by_one(told), atol=1e-2, rtol=1e-2)
    every = torch.cat(surprises)
    nearest = (found.surprises[:, None] - every).abs().min(1).values
    assert float(nearest.max()) < 1e-3, "padding surprises nobody"
