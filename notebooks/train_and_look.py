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
# # Train and look
#
# Train a student on random mazes, look at how it learns, and test it on mazes that nobody trained on. With the numbers
# below this takes a few minutes on two cores.

# %% tags=["parameters"]
STEPS = 1_500_000  # environment steps
EPISODES = 50  # on each test maze
RUNS = "runs/notebooks"

# %%
from pathlib import Path

import matplotlib.pyplot as plt

import clutr

path = Path(RUNS) / "look"
if path.exists():
    run = clutr.load_run(path)
else:
    run = clutr.train("demo-dr", total_steps=STEPS, evaluate_every=0, run=path, progress=True)

# %% [markdown]
# `demo-dr` is domain randomisation: every level is random. Six of them, and what the domain says of them:

# %%
levels = clutr.sample_levels(6, run.domain(), seed=2)
figure, places = plt.subplots(1, 6, figsize=(12, 2.4))
described = run.domain().describe(levels)
for number, (place, picture) in enumerate(zip(places, clutr.draw_levels(levels), strict=True)):
    place.imshow(picture)
    place.set_title(f"{int(described['wall_count'][number])} obstacles")
    place.axis("off")

# %% [markdown]
# `metrics.csv` has a row for each update. The solve rate is that on the levels that were trained on, which are new ones
# all the time.

# %%
metrics = run.metrics()
figure, place = plt.subplots(figsize=(6, 3))
place.plot(metrics["steps"], metrics["protagonist/solved"])
place.set(xlabel="environment steps", ylabel="solved", ylim=(0, 1))

# %% [markdown]
# Zero-shot: mazes by hand, none of which is a random one. Actions are sampled; each episode has its own environment.

# %%
result = clutr.evaluate(run, "small", EPISODES)
for row in result["levels"]:
    print(f"{row['level']:20} {row['solved']:.0%}")
low, high = result["summary"]["mean_solved_interval"]
print(f"mean {result['summary']['mean_solved']:.0%}, 95 % interval {low:.0%} to {high:.0%}")

# %% [markdown]
# That interval is about this run, not about the method: [compare curricula properly](compare_properly.md) has several
# seeds. A report in one HTML file shows curves, levels and the student's paths.

# %%
print(clutr.report(run))
