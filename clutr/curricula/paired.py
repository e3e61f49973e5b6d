"""PAIRED: a teacher builds each level step by step, so that it maximises the regret of two students.

Source: "Emergent Complexity and Zero-shot Transfer via Unsupervised Environment Design", arXiv 2012.02096, algorithm 1.
The teacher of arXiv 2110.02439 (appendix D) fills one cell of an empty grid a step, sees the grid so far, and is
rewarded with the regret after the last step. Here a step writes one token (`clutr.envs.capabilities.Tokens`), so that
the same teacher builds mazes (obstacles, then goal, then agent) and whatever else has tokens on a grid. Filling a cell
twice does nothing in mazes, and is not possible on roads. The networks are in `clutr.curricula.designers`.
"""

from dataclasses import dataclass
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from clutr.agents.losses import ActionEvaluation
from clutr.curricula.base import CURRICULA, Context, Outcome, Pending, Proposal
from clutr.curricula.designers import ConvolutionalDesigner, Designer, RecurrentDesigner
from clutr.curricula.ppo import Learner, TeacherOptions
from clutr.curricula.regret import OBJECTIVES, RunningStd, students_of
from clutr.envs.capabilities import Tokens, require
from clutr.envs.state import Stateful
from clutr.envs.validation import require_at_least, require_one_of, require_within


@dataclass(frozen=True)
class PAIREDOptions(TeacherOptions):
    """PAIRED's teacher.

    Its network is lighter than the published one (`filters` 128, `recurrent` 256). On a 13x13 maze with 52 tokens and
    32 levels an update takes 1.1 M parameters 0.28 s on two cores, the published 16.2 M parameters 4.6 s: more than
    both students together take for playing and learning.
    """

    regret: Literal["paired", "flexible", "minimax"] = "paired"
    """What the teacher maximises: antagonist's best minus protagonist's mean return; whichever student is better minus
    the other; or minus the protagonist's best return (the minimax adversary, which has no antagonist)."""
    normalise_regret: bool = False
    """Divide regret by its running standard deviation (published for car racing)."""
    discount: float = 0.995
    """Discount of the teacher's reward for each step before the last."""
    gae_lambda: float = 0.95
    """Decay of generalised advantage estimation."""
    noise: int = 50
    """Width of the noise that the teacher sees, the same in all steps of a level."""
    filters: int = 16
    """Filters of its convolution (published: 128)."""
    recurrent: int = 128
    """Width of its LSTM (published: 256)."""
    network: Literal["recurrent", "convolutional"] = "recurrent"
    """A convolution and an LSTM (published for mazes), or two convolutions without memory (published for car racing);
    `filters` and `recurrent` are those of the first."""
    mask_used: bool = False
    """Whether a cell can be written once only (published for car racing), so that no token is wasted."""

    def __post_init__(self) -> None:
        super().__post_init__()
        students_of(self.regret)
        require_one_of(self, ("recurrent", "convolutional"), "network")
        require_at_least(self, 1, "noise", "filters", "recurrent")
        require_within(self, 0, 1, "discount", "gae_lambda")


@CURRICULA.register("paired")
@dataclass(frozen=True)
class PAIREDConfig(PAIREDOptions):
    """PAIRED: a teacher that builds levels step by step, and two students."""

    def build(self, context: Context) -> "PAIRED":
        """Make the curriculum. Raises `ValueError` if the domain's grid is smaller than the convolution."""
        return PAIRED(self, context)


@CURRICULA.register("flexible-paired")
@dataclass(frozen=True)
class FlexiblePAIREDConfig(PAIREDConfig):
    """Flexible PAIRED: on each level the better student takes the antagonist's part."""

    regret: Literal["paired", "flexible", "minimax"] = "flexible"
    """What the teacher maximises."""


@CURRICULA.register("minimax")
@dataclass(frozen=True)
class MinimaxConfig(PAIREDConfig):
    """The minimax adversary: PAIRED's teacher wants the only student to fail (arXiv 2012.02096, section 5)."""

    regret: Literal["paired", "flexible", "minimax"] = "minimax"
    """What the teacher maximises."""


def design(domain: Tokens, config: PAIREDOptions, rng: torch.Generator) -> Designer:
    """The teacher's network. Raises `ValueError` if the domain's grid or its cells do not suffice."""
    if config.mask_used and domain.vocabulary < domain.max_tokens:
        cells = f"{domain.max_tokens} tokens, but only {domain.vocabulary} cells"
        raise ValueError(f"mask_used must be off for levels of {cells}")
    if config.network == "convolutional":
        return ConvolutionalDesigner(domain, config.noise, rng, config.mask_used)
    return RecurrentDesigner(domain, config.noise, config.filters, config.recurrent, rng, config.mask_used)


def canvases(actions: Tensor, vocabulary: int) -> Tensor:
    """What the teacher saw before each of its actions `[T, B]`: `[T, B, vocabulary]` float32, 1 where it had been."""
    placed = torch.zeros(*actions.shape, vocabulary).scatter_(-1, actions[..., None], 1.0)
    before = placed.cumsum(0).clamp_(max=1)
    return torch.cat([torch.zeros_like(before[:1]), before[:-1]])


def final_reward_advantages(values: Tensor, reward: Tensor, discount: float, gae_lambda: float) -> Tensor:
    """Generalised advantage estimates (arXiv 1506.02438) where only the last step is rewarded.

    Args:
        values: `[T, B]`.
        reward: `[B]`, after the last step.
        discount: gamma.
        gae_lambda: lambda.

    Returns:
        Advantages `[T, B]`.
    """
    advantage = reward - values[-1]
    advantages = [advantage]
    for value, next_value in zip(values[:-1].flip(0), values[1:].flip(0), strict=True):
        advantage = discount * next_value - value + discount * gae_lambda * advantage
        advantages.append(advantage)
    return torch.stack(advantages[::-1])


class _Batch(NamedTuple):
    canvas: Tensor
    noise: Tensor
    actions: Tensor
    old: ActionEvaluation
    repairs: dict[str, Tensor]


class PAIRED(Stateful):
    """Regret-maximising curriculum on levels built step by step.

    Args:
        config: the options.
        context: the experiment.
    """

    saved = ("_pending", "learner", "rng", "scale")

    def __init__(self, config: PAIREDOptions, context: Context) -> None:
        self.config = config
        self.students = students_of(config.regret)
        self.domain = require(context.domain, Tokens, "PAIRED")
        self.regret = OBJECTIVES[config.regret]
        self.scale = RunningStd() if config.normalise_regret else None
        self.rng = context.generator("teacher")
        self.designer = design(self.domain, config, self.rng)
        self.learner = Learner(self.designer, config, self.rng)
        self._pending: Pending[_Batch] = Pending()

    @torch.no_grad()
    def propose(self, n: int) -> Proposal:
        """Build n levels. Raises `RuntimeError` unless the last proposal was observed."""
        self._pending.require_none()
        noise = torch.rand(n, self.config.noise, generator=self.rng)
        canvas = torch.zeros(n, self.domain.vocabulary)
        state, actions = None, []
        for step in range(self.domain.max_tokens):
            distribution, _, state = self.designer(canvas[None], torch.tensor([step]), noise, state)
            action = torch.multinomial(distribution.probs[0], 1, generator=self.rng)
            canvas.scatter_(1, action, 1.0)
            actions.append(action.squeeze(1))
        written = torch.stack(actions)
        levels, repairs = self.domain.from_tokens(written.t() + 1)
        seen = canvases(written, self.domain.vocabulary)
        # evaluated over whole levels, as `observe` will do it, so that the first ratio is 1 to the last digits
        old = self.designer.evaluate(seen, noise, written)
        self._pending.put(_Batch(seen, noise, written, old, repairs.counts))
        return Proposal.everyone(levels, len(self.students))

    def observe(self, outcome: Outcome) -> dict[str, Tensor]:
        """Teach the teacher.

        Returns:
            `regret` `[B]` (what the teacher maximises), `repairs/REASON` `[B]` and the teacher's metrics.
        """
        canvas, noise, actions, old, repairs = self._pending.take()
        regret = self.regret(outcome)
        reward = regret if self.scale is None else self.scale.normalise(regret)
        advantages = final_reward_advantages(old.values, reward, self.config.discount, self.config.gae_lambda)
        metrics = self.learner.update(
            lambda index: self.designer.evaluate(canvas[:, index], noise[index], actions[:, index]),
            old,
            advantages,
            advantages + old.values,
        )
        mended = {f"repairs/{reason}": count.float() for reason, count in repairs.items()}
        return {"regret": regret, **mended, **metrics}
