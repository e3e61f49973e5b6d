"""Policies of Stable-Baselines3 as `clutr.agents.rollout.collect` plays them, and the distributions that they act by.

A distribution samples from the global generators, whose owner the caller has put in place
(`clutr.agents.sb3.randomness`), in the order in which Stable-Baselines3 itself would draw: given the same state, it
takes the same actions.
"""

from typing import Any, Protocol

import torch
from gymnasium import spaces
from torch import Tensor

from clutr.agents.distributions import Distribution
from clutr.agents.sb3.preprocessing import View
from clutr.envs.domain import Observation

_EDGE = 1e-6


class Player(Protocol):
    """What `collect` needs of a network."""

    view: View
    """What it sees."""

    def initial_state(self, n: int) -> Tensor:
        """What `step` remembers at an episode's start: zeros `[n, ...]`."""
        ...

    def step(self, observation: Observation, state: Tensor) -> tuple[Distribution, Tensor, Tensor]:
        """Distributions over actions `[N]`, values `[N]` and the next state."""
        ...


class Choices:
    """One of A actions. `chosen` is a `torch.distributions.Categorical` over them."""

    def __init__(self, chosen: Any) -> None:
        self.chosen = chosen

    def sample(self, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        """One action each."""
        return self.chosen.sample()  # type: ignore[no-any-return]

    def mode(self) -> Tensor:
        """The most probable action."""
        return self.chosen.probs.argmax(-1)  # type: ignore[no-any-return]

    def log_prob(self, actions: Tensor) -> Tensor:
        """`[N]`."""
        return self.chosen.log_prob(actions)  # type: ignore[no-any-return]

    def entropy(self) -> Tensor:
        """`[N]`."""
        return self.chosen.entropy()  # type: ignore[no-any-return]

    def to_engine(self, actions: Tensor) -> Tensor:
        """As they are."""
        return actions


class Gaussian:
    """Independent normal distributions, clipped to the engine's box, as PPO and A2C act in it."""

    def __init__(self, normal: Any, box: "Box") -> None:
        self.normal, self.box = normal, box

    def sample(self, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        """Before clipping, `[N, A]`."""
        return self.normal.rsample()  # type: ignore[no-any-return]

    def mode(self) -> Tensor:
        """The mean."""
        return self.normal.mean  # type: ignore[no-any-return]

    def log_prob(self, actions: Tensor) -> Tensor:
        """Of the joint action before clipping, `[N]`."""
        return self.normal.log_prob(actions).sum(-1)  # type: ignore[no-any-return]

    def entropy(self) -> Tensor:
        """`[N]`."""
        return self.normal.entropy().sum(-1)  # type: ignore[no-any-return]

    def to_engine(self, actions: Tensor) -> Tensor:
        """Clipped."""
        return actions.clamp(self.box.low, self.box.high)


class SquashedGaussian(Gaussian):
    """Normal distributions squashed by tanh into (-1, 1) and stretched over the engine's box, as SAC acts in it."""

    def sample(self, rng: torch.Generator) -> Tensor:
        """In (-1, 1), `[N, A]`."""
        return torch.tanh(super().sample(rng))

    def mode(self) -> Tensor:
        """The squashed mean."""
        return torch.tanh(super().mode())

    def log_prob(self, actions: Tensor) -> Tensor:
        """Of the joint action in (-1, 1), `[N]`."""
        inside = actions.clamp(-1 + _EDGE, 1 - _EDGE)
        return super().log_prob(torch.atanh(inside)) - torch.log1p(_EDGE - inside.square()).sum(-1)

    def entropy(self) -> Tensor:
        """Of the normal distributions: the squashed ones' has no closed form."""
        return super().entropy()

    def to_engine(self, actions: Tensor) -> Tensor:
        """Stretched."""
        return self.box.low + 0.5 * (actions + 1) * (self.box.high - self.box.low)


class Box:
    """Bounds of continuous actions on a device."""

    def __init__(self, space: spaces.Box, device: torch.device) -> None:
        self.low = torch.from_numpy(space.low).to(device)
        self.high = torch.from_numpy(space.high).to(device)


class ActorCriticPlayer:
    """The policy of PPO or A2C.

    Args:
        policy: of Stable-Baselines3.
        view: what it sees.
    """

    def __init__(self, policy: Any, view: View) -> None:
        self.policy, self.view = policy, view
        space = policy.action_space
        self.box = Box(space, policy.device) if isinstance(space, spaces.Box) else None

    def initial_state(self, n: int) -> Tensor:
        """Nothing is remembered."""
        return torch.zeros(n, 0, device=self.policy.device)

    @torch.no_grad()
    def step(self, observation: Observation, state: Tensor) -> tuple[Distribution, Tensor, Tensor]:
        """See `Player`."""
        actor, critic = self.policy.mlp_extractor(self.policy.extract_features(self.view.show(observation)))
        return self._act(actor), self.policy.value_net(critic).squeeze(-1), state

    def _act(self, latent: Tensor) -> Distribution:
        # the policy reuses its own distribution object; torch's is a new one each time
        distribution = self.policy._get_action_dist_from_latent(latent).distribution
        return Choices(distribution) if self.box is None else Gaussian(distribution, self.box)


class RecurrentPlayer(ActorCriticPlayer):
    """The policy of RecurrentPPO. Its state `[n, 4, layers, width]` is hidden and cell state of actor and critic."""

    def initial_state(self, n: int) -> Tensor:
        """Zeros."""
        core = self.policy.lstm_actor
        return torch.zeros(n, 4, core.num_layers, core.hidden_size, device=self.policy.device)

    @torch.no_grad()
    def step(self, observation: Observation, state: Tensor) -> tuple[Distribution, Tensor, Tensor]:
        """See `Player`. Whoever calls has zeroed the state where an episode starts."""
        policy = self.policy
        features = policy.extract_features(self.view.show(observation))
        parts = [part.transpose(0, 1).contiguous() for part in state.unbind(1)]
        going = torch.zeros(len(state), device=state.device)
        actor, after = policy._process_sequence(features, (parts[0], parts[1]), going, policy.lstm_actor)
        critic, after_critic = policy._process_sequence(features, (parts[2], parts[3]), going, policy.lstm_critic)
        values = policy.value_net(policy.mlp_extractor.forward_critic(critic)).squeeze(-1)
        state = torch.stack([*after, *after_critic]).permute(2, 0, 1, 3)
        return self._act(policy.mlp_extractor.forward_actor(actor)), values, state


class QPlayer:
    """The policy of DQN: the best action, or with probability `exploration` any. V is the best action's Q.

    Args:
        network: Q-network of Stable-Baselines3.
        view: what it sees.
    """

    def __init__(self, network: Any, view: View) -> None:
        self.network, self.view = network, view
        self.exploration = 0.0

    def initial_state(self, n: int) -> Tensor:
        """Nothing is remembered."""
        return torch.zeros(n, 0, device=self.network.device)

    @torch.no_grad()
    def step(self, observation: Observation, state: Tensor) -> tuple[Distribution, Tensor, Tensor]:
        """See `Player`."""
        values, best = self.network(self.view.show(observation)).max(-1)
        actions = int(self.network.action_space.n)
        probs = torch.full((len(best), actions), self.exploration / actions, device=best.device)
        probs.scatter_add_(1, best[:, None], torch.full_like(probs[:, :1], 1 - self.exploration))
        return Choices(torch.distributions.Categorical(probs)), values, state


class SACPlayer:
    """The policy of SAC. V is the least of the critics' Q of the squashed mean action.

    Args:
        model: of Stable-Baselines3.
        view: what it sees.
    """

    def __init__(self, model: Any, view: View) -> None:
        self.model, self.view = model, view
        self.box = Box(model.action_space, model.device)
        self.warming_up = False
        """Whether actions are uniform, as they are until learning starts."""

    def initial_state(self, n: int) -> Tensor:
        """Nothing is remembered."""
        return torch.zeros(n, 0, device=self.model.device)

    @torch.no_grad()
    def step(self, observation: Observation, state: Tensor) -> tuple[Distribution, Tensor, Tensor]:
        """See `Player`."""
        shown = self.view.show(observation)
        mean, log_std, _ = self.model.actor.get_action_dist_params(shown)
        policy = SquashedGaussian(torch.distributions.Normal(mean, log_std.exp()), self.box)
        values = torch.cat(self.model.critic(shown, policy.mode()), 1).amin(1)
        return (Uniform(mean, self.box) if self.warming_up else policy), values, state


class Uniform(SquashedGaussian):
    """Any action of the box alike. Only the shape of `like` `[N, A]` counts."""

    def __init__(self, like: Tensor, box: Box) -> None:
        super().__init__(torch.distributions.Uniform(-torch.ones_like(like), torch.ones_like(like)), box)

    def sample(self, rng: torch.Generator) -> Tensor:  # noqa: ARG002
        """In (-1, 1), `[N, A]`."""
        return self.normal.rsample()  # type: ignore[no-any-return]

    def mode(self) -> Tensor:
        """The middle."""
        return self.normal.mean  # type: ignore[no-any-return]

    def log_prob(self, actions: Tensor) -> Tensor:
        """Of the joint action in (-1, 1), `[N]`."""
        return self.normal.log_prob(actions).sum(-1)  # type: ignore[no-any-return]
