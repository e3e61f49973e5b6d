"""Rollouts of the recurrent student in mazes without Python between steps."""

import logging
from functools import cache
from itertools import pairwise
from typing import Protocol

import torch
from torch import Tensor

from clutr.agents.kernels.maze_play import Played, Weights, play
from clutr.agents.kernels.products import PANEL, pack
from clutr.agents.networks import ActorCritic, ConvTorso
from clutr.envs.domain import Engine, LevelBatch
from clutr.envs.maze.engine import MazeEngine
from clutr.envs.numba_cache import will_compile
from clutr.envs.workers import run_parts

_LOGGER = logging.getLogger(__name__)

ENVS_A_PART = 16
"""Environments that a thread plays at once: enough for products at full speed, few enough for several threads."""


class Player(Protocol):
    """What the compiled rollout needs of a policy; one that lacks it is played step by step."""

    actor_critic: ActorCritic

    def action_noise(self, steps: int, n: int, rng: torch.Generator) -> Tensor:
        """What `step` and `sample` would draw in so many steps of N environments, `[T, N]` uniform on [0, 1)."""
        ...


def play_compiled(
    policy: object, engine: Engine, levels: LevelBatch, steps: int, rng: torch.Generator
) -> tuple[dict[str, Tensor], Tensor] | None:
    """Play a recurrent student's rollout in an engine of mazes that has been reset; None if this is something else.

    Args:
        policy: a network, or what plays a network's share of a rollout.
        engine: N environments; their state stays as it is.
        levels: K N mazes; see `clutr.agents.rollout.collect`.
        steps: T.
        rng: draws the actions.

    Returns:
        See `play_mazes`.
    """
    network = getattr(policy, "actor_critic", None)
    if network is None or not isinstance(engine, MazeEngine) or engine.mazes is None:
        return None
    weights = weights_of(network)
    if weights is None:
        return None
    player: Player = policy  # type: ignore[assignment]
    noise = player.action_noise(steps, engine.num_envs, rng)
    if len(levels) > engine.num_envs:
        engine = engine.resized(len(levels))
        engine.reset(levels)
    return play_mazes(weights, engine, noise)


def weights_of(network: ActorCritic) -> Weights | None:
    """A network's weights as the compiled rollout takes them; None if it cannot play with them."""
    of = {name: tensor.detach() for name, tensor in network.named_parameters()}
    heads = torch.cat([of["actor.0.weight"], of["critic.0.weight"]])
    if not network.core.compiled or len(heads) % PANEL:
        return None
    if isinstance(network.torso, ConvTorso):
        symbols, torso, bias = (
            network.torso.symbols,
            pack(of["torso.convolution.weight"]),
            of["torso.convolution.bias"],
        )
        heading, heading_bias = of["torso.heading.weight"].t(), of["torso.heading.bias"]
    else:
        symbols, torso, bias = (
            torch.zeros(0, dtype=torch.int64),
            of["torso.layer.weight"].t().unsqueeze(0),
            of["torso.layer.bias"],
        )
        heading, heading_bias = heads[:0], heads[0, :0]
    return Weights(
        convolutional=isinstance(network.torso, ConvTorso),
        symbols=symbols.numpy(),
        torso=torso.contiguous().numpy(),
        torso_bias=bias.numpy(),
        heading=heading.contiguous().numpy(),
        heading_bias=heading_bias.numpy(),
        input=pack(of["core.weight_ih_l0"]).numpy(),
        input_bias=(of["core.bias_ih_l0"] + of["core.bias_hh_l0"]).numpy(),
        recurrent=pack(of["core.weight_hh_l0"]).numpy(),
        heads=pack(heads).numpy(),
        heads_bias=torch.cat([of["actor.0.bias"], of["critic.0.bias"]]).numpy(),
        actor=of["actor.2.weight"].numpy(),
        actor_bias=of["actor.2.bias"].numpy(),
        critic=of["critic.2.weight"][0].numpy(),
        critic_bias=float(of["critic.2.bias"]),
    )


@cache
def _announce_compilation() -> None:
    """Say why the first rollout takes so long where it does."""
    why = will_compile(play)
    if why is not None:
        _LOGGER.warning("compiling the rollout of mazes, for about a quarter of a minute, %s", why)


def play_mazes(weights: Weights, engine: MazeEngine, noise: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Play the engine's mazes; see `clutr.agents.rollout.collect`. The engine itself does not move.

    Args:
        weights: of the student.
        engine: K N mazes, whose `mazes` is not None.
        noise: `[T, N]` uniform on [0, 1), which decide on the actions.

    Returns:
        The columns of `clutr.agents.rollout.collect`, `[T, N, ...]`, and the values `[N]` of what follows.
    """
    mazes = engine.mazes
    assert mazes is not None
    shape = tuple(noise.shape)
    flags, numbers = (torch.empty(4, *shape, dtype=kind) for kind in (torch.bool, torch.int64))
    reals = torch.empty(4, *shape)
    _announce_compilation()
    view = engine.view
    image = torch.empty(*shape, view, view, 3, dtype=torch.uint8)
    following = torch.empty(shape[1])
    played = Played(
        image=image.view(*shape, -1, 3).numpy(),
        direction=numbers[0].numpy(),
        actions=numbers[1].numpy(),
        log_probs=reals[0].numpy(),
        rewards=reals[1].numpy(),
        terminated=flags[0].numpy(),
        truncated=flags[1].numpy(),
        episode_starts=flags[2].numpy(),
        values=reals[2].numpy(),
        last_values=reals[3].numpy(),
        following=following.numpy(),
    )
    bounds = [*range(0, shape[1], ENVS_A_PART), shape[1]]
    parts = list(pairwise(bounds))
    run_parts(lambda part: play(mazes, weights, noise.numpy(), *part, played), parts)
    columns = {"actions": numbers[1], "log_probs": reals[0], "rewards": reals[1], "values": reals[2]}
    columns |= {"last_values": reals[3], "terminated": flags[0], "truncated": flags[1], "episode_starts": flags[2]}
    columns |= {"solved": flags[0], "image": image, "direction": numbers[0]}
    return columns, following
