"""A world model under a person's hands: watch, branch a dream, change a latent, take the wheel. No page is needed."""

from collections.abc import Collection
from copy import deepcopy
from threading import Lock
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from gymnasium import spaces
from numpy.typing import NDArray
from torch import Tensor

from clutr.envs.randomness import named_generator
from clutr.experiments.live.calibration import Calibration, calibration_of, risk_is_useful
from clutr.experiments.live.dream_visibility import Visibility, visibility_of
from clutr.experiments.live.episode_memory import EpisodeMemory
from clutr.experiments.live.outlook import Question, familiarity
from clutr.experiments.live.state_readout import learn_about
from clutr.experiments.live.views import Branch, Reading, View, errors_of, not_compared, rms
from clutr.experiments.storage import RunError
from clutr.experiments.world_model.episodes import OpenEpisode, RecordedEpisode, SimulatedEpisode, level_of
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training import MEMORIES, load_world_model
from clutr.probes.attribution import AttributionInput, Past, Target
from clutr.probes.pixel_attribution import PIXEL_METHODS, PixelAttributionInput, differentiable
from clutr.probes.trust import LAST, Trust
from clutr.world_model.backbones.base import to_uint8
from clutr.world_model.dataset import SPLITS
from clutr.world_model.dream import LatentState
from clutr.world_model.policies import RandomWalk
from clutr.world_model.views import view_of

Actions = Literal["recorded", "wheel", "random"]
ACTIONS: tuple[Actions, ...] = ("recorded", "wheel", "random")
"""Who acts in the dreams: as in reality, you, or a random walk."""
MOST_BRANCHES = 4
LOOK_BACK = 8
"""Steps of the past that an explanation takes in."""
STEPS_AHEAD = 10
"""Of looking ahead where steps have no duration; else it is a second."""
STEERING = 0.6
"""Of a pressed key: full lock throws a car off the road at once."""


class WorldModelSession:
    """See the module.

    Args:
        run: a trained world model.
        seed: of draws and walks.

    Raises:
        RunError: if the run is not trained.
    """

    def __init__(self, run: WorldModelRun, seed: int = 1) -> None:
        self.run, self.seed = run, seed
        self.model, self.dataset = load_world_model(run), run.dataset()
        self.dreamer = self.model.dreamers[MEMORIES[0]]
        self.domain = run.experiment.domain
        engine = self.domain.engine(1)
        observer = self.domain.observer(engine)
        self.space, self.units, self.objects = engine.action_space, observer.quantities, observer.objects
        self.moves = 0
        """Grows with everything that is done, so that what was said of a moment is known to be old."""
        self.discrete = int(self.dataset.about["discrete"])
        self.quantities: list[str] = list(self.dataset.quantities)
        self.geometry = view_of(self.domain, self.quantities)
        self.known = learn_about(self.model.backbone, self.dreamer, self.dataset)
        self.calibration: Calibration | None = None
        """None until somebody has asked for it: see `calibrate`."""
        self._calibrating = Lock()
        self.temperature: float | None = None
        self.horizon = 100
        self.actions: Actions = "recorded"
        self._rng = named_generator(seed, "inspect")
        self.select("test" if self.dataset.played("test") else "train", 0)

    def calibrate(self) -> Calibration:
        """Fit, or load, what trust and risk are said with; may take some seconds, and waits for whoever does it."""
        with self._calibrating:
            if self.calibration is None:
                self.calibration = calibration_of(self.run, self.model, self.dataset, self.known.read_out)
                self.moves += 1
        return self.calibration

    def choices(self) -> dict[str, int]:
        """Splits, and how many episodes each has."""
        return {split: count for split in SPLITS if (count := len(self.dataset.played(split)))}

    # --- reality

    def select(self, split: str, number: int) -> None:
        """Go to the beginning of an episode. Raises `RunError` if there is no such one."""
        known = self.dataset.played(split)
        if not 0 <= number < len(known):
            raise RunError(f"the split {split} has {len(known)} episodes, numbered from 0: no {number}")
        self.split, self.number = split, number
        self._show(RecordedEpisode(self.dataset, known[number]))

    def drive(self) -> None:
        """Put the present episode's level into the simulator, with a person at the wheel."""
        episode = self.dataset.played(self.split)[self.number]
        self._show(SimulatedEpisode(self.domain, level_of(self.dataset, self.domain, episode)))
        self.actions = "recorded"  # dreams do what is done in reality

    def _show(self, episode: OpenEpisode) -> None:
        self.episode = episode
        self.course = EpisodeMemory(self.model.backbone, self.dreamer, episode)
        self.frame = 0
        self.stop()

    def seek(self, frame: int) -> None:
        """Go to a frame; dreams end."""
        self.frame = max(0, min(frame, len(self.episode.frames) - 1))
        self.stop()

    # --- dreams

    def stop(self) -> None:
        """End all dreams, and forget what was changed."""
        self.branches: list[Branch] = []
        self._edits: dict[int, float] = {}
        self.moves += 1

    @property
    def dreaming(self) -> bool:
        """Whether a dream goes on."""
        return bool(self.branches)

    @property
    def aligned(self) -> bool:
        """Whether what is shown of reality and of the first dream is of the same step."""
        return not self.dreaming or self.branches[0].now == self.frame

    @property
    def finished(self) -> bool:
        """Whether nothing more comes: all dreams are as long as the horizon, or the episode has ended."""
        if self.dreaming:
            return all(branch.dreamt >= self.horizon for branch in self.branches)
        return self.episode.over and self.frame >= len(self.episode.frames) - 1

    @property
    def steered(self) -> bool:
        """Whether a person's keys do something: in reality, or in dreams."""
        return self.episode.driven or (self.dreaming and self.actions == "wheel")

    def _present(self) -> LatentState:
        """Where the first dream is, or reality; with the latents that were changed."""
        present = (
            self.branches[0].state
            if self.dreaming
            else LatentState(self.course.state(self.frame), self.course.means[[self.frame]])
        )
        latent = present.latent.clone()
        for number, value in self._edits.items():
            latent[0, number] = value
        return LatentState(present.state, latent)

    def branch(self) -> None:
        """Begin a dream here: of reality, or, while dreaming, another one that leaves the first one here.

        Raises:
            RunError: if there are as many as can be shown.
        """
        if len(self.branches) >= MOST_BRANCHES:
            raise RunError(f"{MOST_BRANCHES} dreams are shown at most: wake up first")
        if self.dreaming:
            self.branches.append(deepcopy(self.branches[0]))
        else:
            self.branches.append(Branch(self._present(), self.frame, RandomWalk(self.space, 1)))
        self._edits = {}
        self.moves += 1

    def edit(self, number: int, value: float) -> None:
        """Change a latent of the present step, in standard deviations; dreams go on from what it is changed to."""
        self.moves += 1
        if self.dreaming:
            latent = self.branches[0].state.latent.clone()
            latent[0, number] = value
            self.branches[0].state = LatentState(self.branches[0].state.state, latent)
        else:
            self._edits[number] = value

    def forget_edits(self) -> None:
        """Take back what was changed of the frame that is seen; a dream keeps its changes."""
        self._edits = {}
        self.moves += 1

    def explain(self, method: str, target: str) -> NDArray[np.float32]:
        """Relevance `[side, side]` of the present real frame's pixels for what the memory says of a target.

        Args:
            method: one of `PIXEL_METHODS`.
            target: of `targets`.

        Raises:
            RunError: for another method or target, or where it cannot be asked.
        """
        known = self.targets()
        if method not in PIXEL_METHODS or target not in known:
            raise RunError(f"no explanation by {method!r} of {target!r}")
        if self.frame >= len(self.episode.actions):
            raise RunError("the last frame says nothing of what comes: no action was taken in it")
        begin = max(0, self.frame - LOOK_BACK)
        stretch, actions = slice(begin, self.frame + 1), self.episode.actions
        inputs = torch.cat([self.course.means[stretch], actions[stretch]], 1)[None]
        baseline = torch.cat([torch.zeros(inputs.shape[2] - actions.shape[1]), actions.mean(0)])
        past = Past(inputs, self.course.state(begin), baseline, [(0, self.frame)])
        question = PixelAttributionInput(
            AttributionInput(self.dreamer.memory, known[target], past),
            differentiable(self.model.backbone),
            self.dreamer.scale,
            self.episode.frames[[self.frame]].float(),
            self.known.mean_frame,
        )
        try:
            found: NDArray[np.float32] = PIXEL_METHODS[method](question)[0].detach().numpy()
        except TypeError as error:  # not for this core
            raise RunError(str(error)) from None
        return found

    def targets(self) -> dict[str, Target]:
        """What can be explained: quantities, the reward, and the latents that are used most."""
        found = {
            name.replace("_", " "): Target(name, probe=self.known.probe, column=column)
            for column, name in enumerate(self.quantities)
        }
        found["reward"] = Target("reward")
        return found | {
            f"latent {number}": Target(f"latent {number}", latent=number) for number in self.known.order[:8]
        }

    def visibilities(self) -> list[Visibility]:
        """Of each dream, which pixels of its present step had been seen."""
        found = []
        for branch in self.branches:
            follows = self.actions == "recorded" and branch.now == self.frame
            about = self.episode, self.objects, self.quantities
            found.append(visibility_of(branch, self.dreamer.memory, self.geometry, *about, follows))
        return found

    def question(self) -> Question:
        """What the model is to be asked of the present moment: what follows each key, and of going on as now."""
        keys = [key for key in ("left", "up", "down", "right") if key != "down" or not self.discrete]
        actions = {"": self._real_action(self.wheel(()))} | {key: self.wheel({key}) for key in keys}
        seconds, calibration = getattr(self.domain, "action_repeat", 0) / 50, self.calibration
        steps, wheels, odds = round(1 / seconds) if seconds else STEPS_AHEAD, None, None
        if "wheels_on_road" in self.quantities:
            wheels = self.known.read_out, self.quantities.index("wheels_on_road")
        if calibration is not None and calibration.risk is not None:
            steps = int(calibration.risk_figures["steps"])
            odds = calibration.risk if risk_is_useful(calibration) else None
        active = self.dreamer.scale.active
        return Question(self.dreamer, self._present(), actions, steps, wheels, active, self.seed, odds)

    @property
    def last_seen(self) -> int:
        """The last frame of reality that the model has seen: a dream sees no more."""
        return self.branches[0].began if self.dreaming else self.frame

    def unfamiliar(self) -> float | None:
        """The share of held-out frames that surprised the model less than the last one that it saw did."""
        return familiarity(self.course.surprise(self.last_seen), self.known.surprises)

    def trust(self) -> Trust | None:
        """What is said of the last frame that the model saw; None before the calibration, or too early in an episode.

        Its tensors have one row.
        """
        frame, known = self.last_seen, self.calibration
        if known is None or known.trust is None or frame < LAST:
            return None
        recent: Tensor = self.course.recent_surprises()[frame : frame + 1]
        return known.trust(self.course.features(frame), recent)

    def alarms(self) -> list[int]:
        """The frames so far at which the alarm begins to be raised."""
        known = self.calibration
        if known is None or known.trust is None:
            return []
        raised = self.course.recent_surprises() > known.trust.limit
        begins = raised & ~torch.cat([torch.zeros(1, dtype=torch.bool), raised[:-1]])
        return begins.nonzero().flatten().tolist()

    # --- time

    def step(self, keys: Collection[str] = ()) -> None:
        """One step further, in reality and in all dreams.

        Args:
            keys: of left, right, up and down, those that are pressed.
        """
        wheel = self.wheel(keys)
        real = self._real_action(wheel)
        for branch in self.branches:
            if branch.dreamt < self.horizon:
                self._dream_on(branch, self._dream_action(branch, real, wheel))
        if self.episode.driven and self.frame == len(self.episode.frames) - 1:
            if self.episode.advance(wheel):
                self.course.extend()
                self.frame += 1
        elif self.frame < len(self.episode.frames) - 1:
            self.frame += 1
        self._edits = {}
        self.moves += 1

    def _real_action(self, wheel: Tensor) -> Tensor:
        return self.episode.actions[self.frame] if self.frame < len(self.episode.actions) else wheel

    def _dream_action(self, branch: Branch, real: Tensor, wheel: Tensor) -> Tensor:
        if self.actions == "random":
            drawn = branch.walk.draw(self._rng)
            return F.one_hot(drawn, self.discrete).float()[0] if self.discrete else drawn[0]
        return real if self.actions == "recorded" else wheel

    @torch.no_grad()
    def _dream_on(self, branch: Branch, action: Tensor) -> None:
        branch.state, expected = self.dreamer.step(branch.state, action[None], self.temperature, self._rng)
        branch.dreamt += 1
        branch.rewards.append(branch.alive * float(expected.reward) * self.dreamer.scale.reward_std)
        branch.alive *= 1 - float(expected.termination.sigmoid())
        branch.latents.append(self.dreamer.scale.restore(branch.state.latent)[0])

    def wheel(self, keys: Collection[str]) -> Tensor:
        """What pressed keys do, `[A]`: steer, gas and brake; or turn and go, one-hot."""
        if isinstance(self.space, spaces.Discrete):
            action = next((number for number, key in enumerate(("left", "right", "up")) if key in keys), self._idle())
            return F.one_hot(torch.tensor(action), int(self.space.n)).float()
        steer = STEERING * (float("right" in keys) - float("left" in keys))
        return torch.tensor([steer, float("up" in keys), 0.8 * float("down" in keys)])

    def _idle(self) -> int:
        """The discrete action that does least: the last one."""
        return self.discrete - 1

    # --- what is seen

    @torch.no_grad()
    def view(self) -> View:
        """See `View`."""
        scale, episode = self.dreamer.scale, self.episode
        reality = episode.frames[self.frame]
        present = self._present()
        seen = self.course.means[[self.frame]] if self.dreaming else present.latent
        latents = scale.restore(torch.cat([seen, *(branch.state.latent for branch in self.branches)]))
        fresh = [not_compared(branch, len(episode.frames)) for branch in self.branches]
        more = [torch.stack(each) for each in fresh if each]
        decoded = to_uint8(self.model.backbone.decode(torch.cat([latents, *more])))  # at once: it is much cheaper
        pictures, *compared = decoded.split([len(latents), *map(len, fresh)])
        shown = pictures[1] if self.dreaming else pictures[0]
        wrong = (shown.int() - reality.int()).abs() if self.aligned else None
        return View(
            frame=self.frame,
            frames=len(episode.frames),
            dreaming=self.dreaming,
            about=episode.about,
            reality=reality.numpy(),
            masks=episode.masks[self.frame].numpy(),
            reconstruction=pictures[0].numpy(),
            dreams=list(pictures[1:].numpy()),
            error=None if wrong is None else wrong.to(torch.uint8).numpy(),
            mean_error=None if wrong is None else rms(wrong),
            errors=errors_of(self.branches, episode.frames, compared),
            readings=self._readings(latents),
            latents=present.latent[0].tolist(),
            action=self._real_action(torch.zeros(episode.actions.shape[1])).tolist(),
            rewards=[sum(branch.rewards) for branch in self.branches],
            alive=[branch.alive for branch in self.branches],
        )

    def _readings(self, latents: Tensor) -> list[Reading]:
        read, true = self.known.read_out(latents), self.episode.privileged_state[self.frame]
        return [
            Reading(
                name=name.replace("_", " "),
                unit=self.units[name],
                r2=self.known.r2[column],
                true=float(true[column]),
                seen=float(read[0, column]),
                dreamt=float(read[1, column]) if self.dreaming else None,
            )
            for column, name in enumerate(self.quantities)
        ]
