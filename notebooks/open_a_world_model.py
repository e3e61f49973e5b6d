# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Open a world model
#
# Open a world model of cars that ships ([card](../models.md)) and let it dream beside reality; a few episodes on new
# roads are recorded for that. Or, without a `MODEL`, record what is seen and train a backbone and a memory: the preset
# `maze-debug` takes seconds, and what it learns is little; `car` and `maze` take hours and learn more (see
# `docs/world-model.md`).

# %% tags=["parameters"]
MODEL = "car-world@best"
PRESET = "maze-debug"
WATCHED = 20  # frames before the dream
HORIZON = 8  # steps of the dream
RUNS = "runs/notebooks"

# %%
from contextlib import nullcontext
from pathlib import Path

import matplotlib.pyplot as plt
import torch

import clutr
from clutr.experiments.world_model.config import WORLD_PRESETS
from clutr.experiments.world_model.run_directory import WorldModelRun, open_world_model, record
from clutr.experiments.world_model.training import encoded, fit_backbone, train_memories

if MODEL:
    run = open_world_model(MODEL, lambda _: nullcontext(lambda *_: None))  # which would show progress
    dataset = run.dataset()
else:
    path = Path(RUNS) / f"world-{PRESET}"
    run = WorldModelRun(path) if path.exists() else WorldModelRun.create(path, WORLD_PRESETS[PRESET])
    dataset = record(run)  # each part goes on from wherever it was interrupted
    train_memories(run, dataset, fit_backbone(run, dataset))
model = clutr.load_world_model(run.path)
print(f"{len(dataset):,} frames; memories: {', '.join(model.dreamers)}")

# %% [markdown]
# Levels, not frames, are split: these episodes are on levels that the model was not trained on. The memory observes the
# first frames, then dreams on under the recorded actions.

# %%
numbers = [n for n, info in enumerate(dataset.played("test")) if info.rows > HORIZON + WATCHED]
episode = encoded(dataset, model.backbone, "test")[numbers[0]]
frames = dataset.column("frames", dataset.played("test")[numbers[0]].indices)
dreamer = model.dreamers["trained"]
start, _ = dreamer.observe(episode.mean[:WATCHED, None], episode.actions[: WATCHED - 1, None])
dream = dreamer.dream(start, episode.actions[WATCHED - 1 :][:HORIZON, None], HORIZON)

# %%
rows = {
    "reality": frames[WATCHED:][:HORIZON].float(),
    "as the backbone sees it": model.backbone.decode(episode.mean[WATCHED:][:HORIZON]),
    "dream": model.backbone.decode(dream.latents[:, 0]),
}
figure, places = plt.subplots(3, HORIZON, figsize=(1.4 * HORIZON, 4.4))
for (title, pictures), line in zip(rows.items(), places, strict=True):
    scale = 255 if float(pictures.max()) > 2 else 1
    for picture, place in zip(pictures / scale, line, strict=True):
        place.imshow(picture.clamp(0, 1).detach())
        place.axis("off")
    line[0].set_title(title, loc="left", fontsize=8)

# %% [markdown]
# How far is the dream off? The error of the latents by steps ahead, beside a memory whose core was never trained. A
# claim that a core has learnt something has to beat that one, on many episodes; this is one.

# %%
truth = episode.mean[WATCHED:][:HORIZON]
for name, other in model.dreamers.items():
    start, _ = other.observe(episode.mean[:WATCHED, None], episode.actions[: WATCHED - 1, None])
    dreamt = other.dream(start, episode.actions[WATCHED - 1 :][:HORIZON, None], HORIZON).latents[:, 0]
    errors = (dreamt - truth).square().mean(1).sqrt()
    print(f"{name:20}", " ".join(f"{float(error):.2f}" for error in errors))
assert torch.isfinite(dream.latents).all()

# %% [markdown]
# `clutr world report` measures this on all test episodes and beside more baselines, `clutr world probe` asks what the
# memory knows, and `clutr inspect` is a live page to dream and steer.
