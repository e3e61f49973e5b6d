"""JaxUED's mazes under recurrent PPO in JAX: what `clutr bench maze-train` and `learning` measure themselves against.

A program of its own that imports nothing of this package, so that any interpreter with `jaxued` and `optax` can run it.
The environments are JaxUED's, from the package index; networks are flax's, and a whole update, from new levels to the
last gradient step, is one compiled function. The shape is the published student's (arXiv 2110.02439): 32 environments
for 256 steps, a 3x3 convolution of 16 filters, an LSTM of 256 units, 5 passes in one minibatch. Levels are random, and
each stays in its environment for the whole update, as under domain randomisation here.

With --minutes it learns for as long with the settings of JaxUED's own example of domain randomisation (`JAXUED`; the
learning rate, which falls to 0 over 246 M steps there, stays) and plays the mazes of a file.
"""

import argparse
import json
import platform
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxued.environments.maze import Level, Maze, make_level_generator

SIDE, VIEW, OBSTACLES = 13, 5, 25
DISCOUNT, CLIP = 0.995, 0.2
VALUE_COEFFICIENT, MAX_GRADIENT_NORM, LEARNING_RATE = 0.5, 0.5, 1e-4


class Shape(NamedTuple):
    """How much is played and learnt in an update, and how."""

    environments: int = 32
    steps: int = 256
    epochs: int = 5
    hidden: int = 256
    head: int = 32
    gae_lambda: float = 0.95
    entropy_coefficient: float = 0.01
    fresh_levels: bool = False
    """Whether each episode has a level of its own."""


JAXUED = Shape(gae_lambda=0.98, entropy_coefficient=1e-3, fresh_levels=True)
"""The settings of examples/maze_dr.py (JaxUED 0.0.2)."""


class Moment(NamedTuple):
    """What is kept of each step, every field `[N, ...]`, or `[T, N, ...]` of a rollout."""

    image: jax.Array
    direction: jax.Array
    start: jax.Array
    action: jax.Array
    log_prob: jax.Array
    value: jax.Array
    reward: jax.Array
    done: jax.Array


class ResettingLSTM(nn.Module):
    """An LSTM that forgets where an episode starts."""

    hidden: int

    @nn.compact
    def __call__(self, state: Any, inputs: tuple[jax.Array, jax.Array]) -> tuple[Any, jax.Array]:
        """One step: features `[N, F]` and episode starts `[N]` to hidden states `[N, H]`."""
        features, starts = inputs
        state = jax.tree_util.tree_map(lambda part: jnp.where(starts[:, None], 0.0, part), state)
        state, hidden = nn.OptimizedLSTMCell(self.hidden)(state, features)
        return state, hidden


class ActorCritic(nn.Module):
    """Convolution and direction, LSTM, and a hidden layer each for actor and critic."""

    shape: Shape
    actions: int

    @nn.compact
    def __call__(
        self, state: Any, image: jax.Array, direction: jax.Array, starts: jax.Array
    ) -> tuple[Any, jax.Array, jax.Array]:
        """Sequences `[T, N, ...]` to the last state, log-probabilities `[T, N, actions]` and values `[T, N]`."""
        seen = nn.relu(nn.Conv(16, (3, 3), padding="VALID")(image.astype(jnp.float32) / 10))
        facing = nn.Dense(5)(jax.nn.one_hot(direction, 4))
        features = jnp.concatenate([seen.reshape(*seen.shape[:2], -1), facing], -1)
        through_time = nn.scan(ResettingLSTM, variable_broadcast="params", split_rngs={"params": False})
        state, hidden = through_time(self.shape.hidden)(state, (features, starts))
        logits = nn.Dense(self.actions)(jnp.tanh(nn.Dense(self.shape.head)(hidden)))
        values = nn.Dense(1)(jnp.tanh(nn.Dense(self.shape.head)(hidden)))
        return state, jax.nn.log_softmax(logits), values[..., 0]


def advantages_of(played: Moment, last_value: jax.Array, gae_lambda: float = Shape().gae_lambda) -> jax.Array:
    """Generalised advantage estimation (arXiv 1506.02438) over a rollout: `[T, N]`."""

    def back(carry: tuple[jax.Array, jax.Array], moment: Moment) -> tuple[tuple[jax.Array, jax.Array], jax.Array]:
        advantage, next_value = carry
        goes_on = 1.0 - moment.done
        error = moment.reward + DISCOUNT * next_value * goes_on - moment.value
        advantage = error + DISCOUNT * gae_lambda * goes_on * advantage
        return (advantage, moment.value), advantage

    start = (jnp.zeros_like(last_value), last_value)
    return jax.lax.scan(back, start, played, reverse=True)[1]


def loss_of(
    log_probs: jax.Array,
    values: jax.Array,
    played: Moment,
    advantages: jax.Array,
    returns: jax.Array,
    entropy_coefficient: float = Shape().entropy_coefficient,
) -> jax.Array:
    """PPO's clipped loss (arXiv 1707.06347) with a clipped value error and an entropy bonus: 0-d."""
    log_prob = jnp.take_along_axis(log_probs, played.action[..., None], -1)[..., 0]
    ratio = jnp.exp(log_prob - played.log_prob)
    surrogate = jnp.minimum(ratio * advantages, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * advantages)
    near = played.value + jnp.clip(values - played.value, -CLIP, CLIP)
    value_error = 0.5 * jnp.maximum((values - returns) ** 2, (near - returns) ** 2).mean()
    entropy = -(jnp.exp(log_probs) * log_probs).sum(-1).mean()
    return -surrogate.mean() + VALUE_COEFFICIENT * value_error - entropy_coefficient * entropy


class Trainer:
    """The network, its optimiser and the compiled update.

    Args:
        shape: how much is played and learnt.
        seed: of the weights.
    """

    def __init__(self, shape: Shape, seed: int = 0) -> None:
        self.shape = shape
        self.maze = Maze(SIDE, SIDE, VIEW)
        self.limits = self.maze.default_params
        self.sample_level = make_level_generator(SIDE, SIDE, OBSTACLES)
        self.network = ActorCritic(shape, self.maze.action_space(self.limits).n)
        one = (1, shape.environments)
        self.weights = self.network.init(
            jax.random.PRNGKey(seed),
            self.forgotten(),
            jnp.zeros((*one, VIEW, VIEW, 3)),
            jnp.zeros(one, int),
            jnp.zeros(one, bool),
        )
        self.adam = optax.chain(optax.clip_by_global_norm(MAX_GRADIENT_NORM), optax.adam(LEARNING_RATE, eps=1e-5))
        self.slots = self.adam.init(self.weights)
        self.update = jax.jit(self._update, donate_argnums=(0, 1))

    def compiled_by(self, other: "Trainer") -> "Trainer":
        """Use the update that another trainer of the same shape has compiled."""
        self.update = other.update
        return self

    def forgotten(self) -> tuple[jax.Array, jax.Array]:
        """The LSTM's initial state, two arrays `[N, H]`."""
        zeros = jnp.zeros((self.shape.environments, self.shape.hidden))
        return zeros, zeros

    def rollout(self, weights: Any, rng: jax.Array) -> tuple[Moment, jax.Array]:
        """Play new random levels; each begins again when its episode ends. A rollout, and the values `[N]` after it."""
        n = self.shape.environments
        rng_levels, rng_reset, rng_play = jax.random.split(rng, 3)
        levels = jax.vmap(self.sample_level)(jax.random.split(rng_levels, n))
        reset = jax.vmap(self.maze.reset_to_level, in_axes=(0, 0, None))
        first = reset(jax.random.split(rng_reset, n), levels, self.limits)
        step = jax.vmap(self.maze.step, in_axes=(0, 0, 0, None))

        def look(state: Any, seen: Any, start: jax.Array) -> tuple[Any, jax.Array, jax.Array]:
            state, log_probs, values = self.network.apply(
                weights, state, seen.image[None], seen.agent_dir[None], start[None]
            )
            return state, log_probs[0], values[0]

        def play(carry: Any, rng: jax.Array) -> tuple[Any, Moment]:
            state, seen, world, start = carry
            rng_action, rng_step = jax.random.split(rng)
            state, log_probs, value = look(state, seen, start)
            action = jax.random.categorical(rng_action, log_probs)
            log_prob = jnp.take_along_axis(log_probs, action[:, None], 1)[:, 0]
            after, world, reward, done, _ = step(jax.random.split(rng_step, n), world, action, self.limits)
            moment = Moment(seen.image, seen.agent_dir, start, action, log_prob, value, reward, done)

            begin = first
            if self.shape.fresh_levels:
                rng_levels, rng_reset = jax.random.split(rng_step)
                levels = jax.vmap(self.sample_level)(jax.random.split(rng_levels, n))
                begin = reset(jax.random.split(rng_reset, n), levels, self.limits)

            def again(begin: jax.Array, go_on: jax.Array) -> jax.Array:
                return jnp.where(done.reshape(-1, *[1] * (go_on.ndim - 1)), begin, go_on)

            seen, world = jax.tree_util.tree_map(again, begin, (after, world))
            return (state, seen, world, done), moment

        start = (self.forgotten(), *first, jnp.ones(n, bool))
        (state, seen, _, done), played = jax.lax.scan(play, start, jax.random.split(rng_play, self.shape.steps))
        return played, look(state, seen, done)[2]

    def _update(self, weights: Any, slots: Any, rng: jax.Array) -> tuple[Any, Any, jax.Array]:
        played, last_value = self.rollout(weights, rng)
        advantages = advantages_of(played, last_value, self.shape.gae_lambda)
        returns = advantages + played.value
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-5)

        def loss(weights: Any) -> jax.Array:
            _, log_probs, values = self.network.apply(
                weights, self.forgotten(), played.image, played.direction, played.start
            )
            return loss_of(log_probs, values, played, advantages, returns, self.shape.entropy_coefficient)

        def learn(carry: Any, _: None) -> tuple[Any, jax.Array]:
            weights, slots = carry
            found, gradient = jax.value_and_grad(loss)(weights)
            change, slots = self.adam.update(gradient, slots, weights)
            return (optax.apply_updates(weights, change), slots), found

        (weights, slots), losses = jax.lax.scan(learn, (weights, slots), None, self.shape.epochs)
        return weights, slots, losses

    def train(self, rng: jax.Array) -> jax.Array:
        """One update; the loss of each pass `[epochs]`."""
        self.weights, self.slots, losses = self.update(self.weights, self.slots, rng)
        return jax.block_until_ready(losses)


def steps_per_second(shape: Shape, updates: int) -> float:
    """Environment steps per second of the best of some updates, after one that compiles and one to warm up."""
    trainer, best = Trainer(shape), float("inf")
    for update in range(updates + 2):
        started = time.perf_counter()
        trainer.train(jax.random.PRNGKey(update + 1))
        if update > 1:
            best = min(best, time.perf_counter() - started)
    return shape.environments * shape.steps / best


def solved(trainer: Trainer, mazes: list[dict[str, Any]], rng: jax.Array) -> jax.Array:
    """One episode on each of N mazes of one size, with sampled actions: which were solved, `[N]` bool.

    Args:
        trainer: whose network plays.
        mazes: rows of `walls`, cells `agent` and `goal` as (x, y), `heading`, and the number of `steps`.
        rng: draws the actions.
    """
    walls = jnp.array([maze["walls"] for maze in mazes], bool)
    n, height, width = walls.shape
    world = Maze(height, width, VIEW)
    limits = world.default_params.replace(max_steps_in_episode=mazes[0]["steps"])
    places = (jnp.array([maze[name] for maze in mazes], jnp.uint32) for name in ("goal", "agent"))
    headings = jnp.array([maze["heading"] for maze in mazes], jnp.uint8)
    levels = Level(walls, *places, headings, jnp.full(n, width), jnp.full(n, height))
    begin = jax.vmap(world.reset_to_level, in_axes=(0, 0, None))(jax.random.split(rng, n), levels, limits)
    step = jax.vmap(world.step, in_axes=(0, 0, 0, None))
    zeros = jnp.zeros((n, trainer.shape.hidden))

    def play(carry: Any, rng: jax.Array) -> tuple[Any, None]:
        memory, seen, state, start, over, won = carry
        rng_action, rng_step = jax.random.split(rng)
        memory, log_probs, _ = trainer.network.apply(
            trainer.weights, memory, seen.image[None], seen.agent_dir[None], start[None]
        )
        action = jax.random.categorical(rng_action, log_probs[0])
        seen, state, reward, done, _ = step(jax.random.split(rng_step, n), state, action, limits)
        won = won | (~over & (reward > 0))
        return (memory, seen, state, jnp.zeros(n, bool), over | done, won), None

    nothing = jnp.zeros(n, bool)
    start = ((zeros, zeros), *begin, jnp.ones(n, bool), nothing, nothing)
    played = jax.jit(lambda start, rngs: jax.lax.scan(play, start, rngs)[0])
    return played(start, jax.random.split(rng, mazes[0]["steps"]))[5]


def learn(shape: Shape, minutes: float, mazes: list[dict[str, Any]], seed: int) -> dict[str, Any]:
    """Learn for so many minutes, not counting compilation, then play mazes. What came of it, plain values.

    Args:
        shape: the settings.
        minutes: of learning.
        mazes: as `solved` takes them, each with the `name` by which its episodes are averaged.
        seed: of everything.
    """
    trainer, rng = Trainer(shape, seed), jax.random.PRNGKey(seed)
    trainer.train(rng)  # compiles
    trainer = Trainer(shape, seed).compiled_by(trainer)
    updates, started = 0, time.perf_counter()
    while time.perf_counter() - started < 60 * minutes:
        rng, rng_update = jax.random.split(rng)
        trainer.train(rng_update)
        updates += 1
    seconds = time.perf_counter() - started
    rates = {}
    for name in dict.fromkeys(maze["name"] for maze in mazes):
        rng, rng_play = jax.random.split(rng)
        rates[name] = float(solved(trainer, [maze for maze in mazes if maze["name"] == name], rng_play).mean())
    return {"solved": rates, "steps": updates * shape.environments * shape.steps, "seconds": seconds}


def main() -> None:
    """Measure, and print one JSON object."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--updates", type=int, default=6)
    parser.add_argument("--environments", type=int, default=Shape().environments)
    parser.add_argument("--steps", type=int, default=Shape().steps)
    parser.add_argument("--minutes", type=float, help="learn for as long and play --mazes, instead of a rate")
    parser.add_argument("--mazes", type=Path, help="a JSON file of mazes: see `learn`")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    size = {"environments": options.environments, "steps": options.steps}
    if options.minutes is None:
        found = {"steps_per_second": steps_per_second(Shape(**size), options.updates)}
    else:
        mazes = json.loads(options.mazes.read_text())
        found = learn(JAXUED._replace(**size), options.minutes, mazes, options.seed)
    versions = {name: version(name) for name in ("jax", "jaxued", "flax", "optax")}
    print(json.dumps(found | {"python": platform.python_version(), **versions, "backend": jax.default_backend()}))


if __name__ == "__main__":
    main()
