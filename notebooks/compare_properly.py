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
# # Compare curricula properly
#
# One run of each of two methods says little: seeds often differ more than methods. So train several seeds of each,
# evaluate all of them at the same number of steps, and look at intervals instead of means.

# %% tags=["parameters"]
METHODS = ["demo-dr", "demo-clutr"]  # the first one is the baseline
SEEDS = [1, 2, 3]
STEPS = 1_500_000
EPISODES = 50
RUNS = "runs/notebooks/compare"

# %%
from pathlib import Path

import matplotlib.pyplot as plt

import clutr

runs = []
for method in METHODS:
    for seed in SEEDS:
        path = Path(RUNS) / f"{method}-s{seed}"
        if path.exists():
            run = clutr.load_run(path)
        else:
            run = clutr.train(method, seed=seed, total_steps=STEPS, evaluate_every=0, run=path)
        clutr.evaluate(run, "small", EPISODES)
        runs.append(run)

# %% [markdown]
# Runs that differ in their seed alone are one method. The interquartile mean (IQM) is the mean of the middle half of
# all scores; intervals are bootstrapped over runs and over the episodes of each
# ([arXiv 2108.13264](https://arxiv.org/abs/2108.13264)).

# %%
comparison = clutr.compare(runs, "small")
for result in comparison.methods:
    print(f"{result.method}: IQM {result.iqm.value:.2f} [{result.iqm.low:.2f}, {result.iqm.high:.2f}]")
    if result.improvement is not None:
        chance = result.improvement
        interval = f"{chance.value:.2f} [{chance.low:.2f}, {chance.high:.2f}]"
        print(f"  better than {comparison.baseline} with probability {interval}")
print(comparison.uncertainty)

# %% [markdown]
# Read the last sentences: they say what the intervals do not cover, and how many students played the steps that are
# counted. CLUTR trains two.

# %%
figure, place = plt.subplots(figsize=(6, 3))
for run in runs:
    metrics = run.metrics()
    colour = "C0" if METHODS[0] in run.path.name else "C1"
    place.plot(metrics["steps"], metrics["protagonist/solved"], colour, label=run.path.name)
place.set(xlabel="environment steps of one student", ylabel="solved in training", ylim=(0, 1))
place.legend(fontsize=7)

# %% [markdown]
# These curves are no comparison: each curriculum trains on other levels, and one that proposes easy ones looks good.
# What counts is the test above, on levels that are the same for all.
