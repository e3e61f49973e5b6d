"""ALP-GMM: a teacher proposes the tasks on which the student's returns change most, for better or worse.

Source: "Teacher algorithms for curriculum learning of Deep RL in continuously parameterized environments", arXiv
1910.07224, algorithm 1. A task is a point of a box: the domain's own parameters (`clutr.envs.capabilities.Parameters`),
as published, or a point of the task manifold. Its absolute learning progress (ALP) is how far
its return is from that of the nearest task seen before. A mixture of Gaussians, fitted now and then to the latest tasks
and their progress, says where progress is; tasks are drawn from the Gaussians in proportion to it.
"""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from clutr.curricula.base import CURRICULA, Context, Outcome, Pending, Proposal
from clutr.envs.capabilities import Parameters, require
from clutr.envs.state import Stateful
from clutr.envs.validation import require_at_least, require_one_of, require_within
from clutr.manifold.base import Manifold

FULL_COVARIANCE = 8
"""Most dimensions of a task for which the mixture has full covariances by default."""


@CURRICULA.register("alp-gmm")
@dataclass(frozen=True)
class ALPGMMConfig:
    """ALP-GMM. The defaults are the published ones; there `history` has no end."""

    space: Literal["parameters", "latent"] = "parameters"
    """What a task is: the domain's own parameters, or a point of the task manifold."""
    window: int = 250
    """Latest tasks to which the mixture is fitted."""
    fit_every: int = 250
    """Tasks between two fits; before the first one tasks are uniform."""
    max_components: int = 10
    """Most Gaussians of the mixture; from 2 up, as many as Akaike's criterion likes best."""
    random_fraction: float = 0.2
    """Probability that a task is uniform instead of from the mixture."""
    covariance: Literal["auto", "full", "diag"] = "auto"
    """Gaussians of any direction, or along the axes; "auto" is "full" up to 8 dimensions. In more, the few tasks of
    a window do not determine full covariances."""
    history: int = 20_000
    """Latest tasks among which a task's nearest is searched."""

    def __post_init__(self) -> None:
        require_one_of(self, ("parameters", "latent"), "space")
        require_one_of(self, ("auto", "full", "diag"), "covariance")
        require_at_least(self, 2, "max_components")
        require_at_least(self, 1, "fit_every")
        if self.window < self.max_components:
            raise ValueError(f"window must be at least max_components, {self.max_components}, got {self.window}")
        if self.history < self.window:
            raise ValueError(f"history must be at least window, {self.window}, got {self.history}")
        require_within(self, 0, 1, "random_fraction")

    def build(self, context: Context) -> "ALPGMM":
        """Make the curriculum. Raises `ValueError` if it chooses latents and the experiment has no manifold."""
        return ALPGMM(self, context)


class ParameterBox:
    """The box of a domain's own parameters."""

    def __init__(self, domain: Parameters, rng: torch.Generator) -> None:
        self.domain = domain
        self.rng = rng
        self.dim = len(domain.parameters)
        self.low = torch.tensor([one.low for one in domain.parameters])
        self.high = torch.tensor([one.high for one in domain.parameters])

    def proposal(self, tasks: Tensor) -> Proposal:
        """A random level at each of `tasks` `[n, dim]`, which are points of the unit box."""
        return Proposal.everyone(self.domain.sample_at(self.low + (self.high - self.low) * tasks, self.rng), 1)


class LatentBox:
    """The box of a task manifold."""

    def __init__(self, manifold: Manifold) -> None:
        self.manifold = manifold
        self.dim = manifold.dim

    def proposal(self, tasks: Tensor) -> Proposal:
        """The level of each of `tasks` `[n, dim]`, which are points of the unit box."""
        low, high = self.manifold.bounds
        latents = low + (high - low) * tasks
        return Proposal.everyone(self.manifold.decode(latents), 1, latents)


def absolute_learning_progress(tasks: Tensor, returns: Tensor, old_tasks: Tensor, old_returns: Tensor) -> Tensor:
    """How far the return of each task is from that of the nearest earlier one: `[n]`, 0 where there is none.

    Args:
        tasks: `[n, dim]`, points of the unit box.
        returns: `[n]`.
        old_tasks: `[m, dim]`, all of them earlier.
        old_returns: `[m]`.
    """
    if not len(old_tasks):
        return torch.zeros_like(returns)
    distance = torch.cdist(tasks, old_tasks, compute_mode="donot_use_mm_for_euclid_dist")
    return (returns - old_returns[distance.argmin(1)]).abs()


class TaskMixture(NamedTuple):
    """Gaussians in the space of tasks."""

    progress: Tensor
    """`[K]` float64: the mean progress of each, in units of the largest of the window."""
    means: Tensor
    """`[K, dim]` float64."""
    factors: Tensor
    """`[K, dim, dim]` float64: Cholesky factors of their covariances."""

    def sample(self, n: int, rng: torch.Generator) -> Tensor:
        """Draw n tasks `[n, dim]` of the unit box: Gaussians in proportion to their progress, clipped to the box."""
        progress = self.progress.clamp(min=0)
        if not bool(progress.any()):  # nowhere is any: all are alike
            progress = torch.ones_like(progress)
        chosen = torch.multinomial(progress, n, replacement=True, generator=rng)
        noise = torch.randn(n, self.means.shape[1], 1, generator=rng, dtype=torch.float64)
        return (self.means[chosen] + (self.factors[chosen] @ noise).squeeze(2)).clamp(0, 1).float()


def fit_mixture(tasks: Tensor, progress: Tensor, max_components: int, covariance: str, seed: int) -> TaskMixture:
    """Fit 2 to `max_components` Gaussians to tasks and progress together; the best by Akaike's criterion is kept.

    Progress is divided by its largest value first, so that it counts like a coordinate of the unit box whatever the
    unit of returns: the fit starts from k-means, to which scales matter.

    Args:
        tasks: `[n, dim]`, points of the unit box, at least 2.
        progress: `[n]`, not negative.
        max_components: most Gaussians; no more than tasks are tried.
        covariance: "full" or "diag".
        seed: of the fit.
    """
    # imported when needed, so that the command line starts without it
    from sklearn.exceptions import ConvergenceWarning  # noqa: PLC0415
    from sklearn.mixture import GaussianMixture  # noqa: PLC0415
    from threadpoolctl import threadpool_limits  # noqa: PLC0415

    largest = progress.max()
    scaled = progress / torch.where(largest > 0, largest, 1.0)
    points = torch.cat([tasks, scaled[:, None]], 1).double().numpy()
    sizes = range(2, min(max_components, len(tasks)) + 1)
    candidates = [GaussianMixture(k, covariance_type=covariance, random_state=seed) for k in sizes]
    # on one thread sums have one order; a fit that has not converged, or to few distinct tasks, is a fit
    with threadpool_limits(1), warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        best = min((candidate.fit(points) for candidate in candidates), key=lambda fitted: float(fitted.aic(points)))
    means, covariances = torch.from_numpy(best.means_), torch.from_numpy(best.covariances_)
    if covariance == "diag":
        factors = torch.diag_embed(covariances[:, :-1].sqrt())
    else:
        factors = torch.linalg.cholesky(covariances[:, :-1, :-1])
    return TaskMixture(means[:, -1].clone(), means[:, :-1].clone(), factors)


class ALPGMM(Stateful):
    """Tasks where the student's returns change, by a mixture of Gaussians.

    Args:
        config: the options.
        context: the experiment.
    """

    students: tuple[str, ...] = ("protagonist",)
    saved = ("_pending", "tasks", "returns", "progress", "mixture", "waiting", "rng", "levels_rng")

    def __init__(self, config: ALPGMMConfig, context: Context) -> None:
        self.config = config
        self.rng = context.generator("tasks")
        self.levels_rng = context.generator("levels")
        self.box: ParameterBox | LatentBox
        if config.space == "latent":
            self.box = LatentBox(context.require_manifold("alp-gmm"))
        else:
            self.box = ParameterBox(require(context.domain, Parameters, "ALP-GMM"), self.levels_rng)
        by_dimension = "full" if self.box.dim <= FULL_COVARIANCE else "diag"
        self.covariance = by_dimension if config.covariance == "auto" else config.covariance
        self.tasks = torch.zeros(0, self.box.dim)
        """The history, `[H, dim]` in the unit box, oldest first."""
        self.returns = torch.zeros(0)
        self.progress = torch.zeros(0)
        self.mixture: TaskMixture | None = None
        self.waiting = 0
        """Tasks since the last fit."""
        self._pending: Pending[Tensor] = Pending()

    def propose(self, n: int) -> Proposal:
        """Choose n tasks. Raises `RuntimeError` unless the last proposal was observed."""
        self._pending.require_none()
        tasks = torch.rand(n, self.box.dim, generator=self.rng)
        if self.mixture is not None:
            uniform = torch.rand(n, 1, generator=self.rng) < self.config.random_fraction
            tasks = torch.where(uniform, tasks, self.mixture.sample(n, self.rng))
        self._pending.put(tasks)
        return self.box.proposal(tasks)

    def observe(self, outcome: Outcome) -> dict[str, Tensor]:
        """Measure the learning progress, and fit the mixture again if it is time.

        Tasks of one proposal are no neighbours of each other: it was the same student that played them.

        Returns:
            `learning_progress` `[B]`, and `components` of the mixture, 0 before the first fit.
        """
        tasks, returns = self._pending.take(), outcome.mean_return[0]
        progress = absolute_learning_progress(tasks, returns, self.tasks, self.returns)
        self.tasks = torch.cat([self.tasks, tasks])[-self.config.history :]
        self.returns = torch.cat([self.returns, returns])[-self.config.history :]
        self.progress = torch.cat([self.progress, progress])[-self.config.history :]
        self.waiting += len(tasks)
        if self.waiting >= self.config.fit_every and len(self.tasks) > 1:
            self._fit()
        components = 0 if self.mixture is None else len(self.mixture.progress)
        return {"learning_progress": progress, "components": torch.tensor(float(components))}

    def _fit(self) -> None:
        window, self.waiting = self.config.window, 0
        seed = int(torch.randint(2**31, (), generator=self.rng))
        tasks, progress = self.tasks[-window:], self.progress[-window:]
        self.mixture = fit_mixture(tasks, progress, self.config.max_components, self.covariance, seed)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """The inverse of `state_dict`."""
        super().load_state_dict(state)
        self.mixture = None if state["mixture"] is None else TaskMixture(**state["mixture"])
