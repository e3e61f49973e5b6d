"""Probing a trained world model: each section of a probe report takes the model to plain values and arrays."""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.envs.progress import Progress
from clutr.envs.randomness import named_generator
from clutr.envs.validation import require_above, require_at_least
from clutr.experiments.storage import RunError
from clutr.experiments.world_model import past_pictures, questions, what_if
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.experiments.world_model.training import MEMORIES, WorldModel, encoded
from clutr.manifold.posterior import kl_to_standard_normal
from clutr.probes import (
    attribution,
    causal,
    feature_maps,
    latent_health,
    latent_traversals,
    memory_dynamics,
    state_probes,
)
from clutr.probes import pixel_attribution as pixels
from clutr.probes.attribution import Past, Target, cut_pasts
from clutr.probes.intervals import interval_of, r2_draws
from clutr.probes.mask_agreement import mask_agreement
from clutr.probes.memory_dynamics import fixed_points
from clutr.probes.open_lstm import OpenLSTM, gate_statistics
from clutr.probes.sanity_checks import Skill, check_latents, check_pixels, check_steps
from clutr.world_model.backbones.base import to_uint8
from clutr.world_model.cores.aaren import AarenCore
from clutr.world_model.cores.lmu import LMUCore
from clutr.world_model.cores.lstm_gru import LSTMCore
from clutr.world_model.dataset import EpisodeDataset, EpisodeInfo
from clutr.world_model.dream import Dreamer
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.linear_probe import LinearProbe, fit_probe
from clutr.world_model.views import view_of

ProbeResult = tuple[dict[str, Any], dict[str, NDArray[Any]]]
"""A section's plain values, and its arrays by name."""

EXAMPLES = 3
"""Predictions of which pictures are kept."""
CONTROLS = 3
"""Untrained cores beside the trained one, the model's own control among them."""
CAUSAL_STEPS, CAUSAL_STARTS = 3, 400
"""Steps that are dreamt after a push, and moments that are pushed."""


@dataclass(frozen=True)
class ProbeOptions:
    """How much is probed; small episodes and few levels make less of it."""

    past: int = 20
    """Past steps by which predictions are explained."""
    predictions: int = 32
    """Predictions that are explained by past latents."""
    pictured: int = 16
    """Of those, how many are explained by pixels."""
    moments: int = 6
    """Moments of each held-out episode from which dreams begin, for trust and risk."""
    shuffles: int = 16
    """Shuffled models with whose maps each map is compared."""
    quantities: int = 2
    """True quantities whose expectation is explained, beside the reward and a latent."""
    ahead: int = 10
    """Steps ahead at which the true state is read."""
    samples: int = 6_000
    """Steps of episodes on which linear probes are fitted and tested."""
    frames: int = 1_000
    """Frames on which feature maps are fitted; half as many of other levels test them."""
    traversals: int = 8
    """Latents that are traversed."""
    exponents: int = 8
    """Lyapunov exponents."""
    steps: int = 400
    """Steps of their trajectories."""
    warm_up: int = 100
    """Of them only turn the directions."""
    starts: int = 16
    """States from which fixed points are searched."""
    search: int = 800
    """Most gradient steps of that search."""
    beyond: int = 16
    """Times the training length that the memory runs in the test of state collapse."""
    frames_back: int = 8
    """Past frames by whose pixels predictions are explained, the present among them."""
    other: str = ""
    """Another world model, a directory or a name: how well a linear map leads from these latents to its own."""
    seed: int = 1
    """Of everything that is drawn."""

    def __post_init__(self) -> None:
        require_at_least(
            self, 1, "past", "predictions", "pictured", "ahead", "samples", "frames", "traversals", "moments",
            "exponents", "starts", "frames_back",
        )  # fmt: skip
        require_above(self, self.warm_up, "steps")
        require_at_least(self, 2, "beyond", "shuffles")


@dataclass
class ProbeContext:
    """A trained world model, and what several sections take from it."""

    run: WorldModelRun
    model: WorldModel
    dataset: EpisodeDataset
    options: ProbeOptions
    progress: Progress = field(default=lambda *_: None)
    skills: dict[str, Skill] = field(default_factory=dict)
    """Of each target by name, once `targets` was asked."""

    @cached_property
    def episodes(self) -> list[tuple[EpisodeInfo, LatentEpisode]]:
        """Episodes of test and validation levels, as recorded and as encoded."""
        found = self.of_split("test") + self.of_split("valid")
        if len({episode.key for episode, _ in found}) < 3:
            raise RunError(f"{self.run.path} holds too few episodes to probe: record at least 30")
        return found

    def of_split(self, split: str) -> list[tuple[EpisodeInfo, LatentEpisode]]:
        """Episodes of a split."""
        return list(zip(self.dataset.played(split), encoded(self.dataset, self.model.backbone, split), strict=True))

    @property
    def seen(self) -> list[LatentEpisode]:
        """The same as latents."""
        return [seen for _, seen in self.episodes]

    @property
    def dreamer(self) -> Dreamer:
        """The trained memory."""
        return self.model.dreamers[MEMORIES[0]]

    @cached_property
    def kl(self) -> Tensor:
        """KL of each latent in nats, mean over the probed frames `[k]`."""
        parts = ("mean", "log_variance")
        mean, spread = (torch.cat([getattr(seen, name) for seen in self.seen]) for name in parts)
        return kl_to_standard_normal(mean, spread).mean(0)

    @cached_property
    def mean_frame(self) -> Tensor:
        """Of training frames: see `EpisodeDataset.mean_frame`."""
        return self.dataset.mean_frame()

    @cached_property
    def state_probe_data(
        self,
    ) -> tuple[state_probes.StateProbeData, list[state_probes.ProbeScore], dict[str, LinearProbe]]:
        """Probed steps, scores and probes of the true state."""
        options = self.options
        longest = max(len(seen) for seen in self.seen)
        rng, ahead = self.rng("knowledge"), min(options.ahead, longest // 2)
        view = view_of(self.run.experiment.domain, self.dataset.quantities)
        needs = None if view is None else view.needs
        dreamers = self.model.dreamers | self._controls()
        found = state_probes.collect(self.dataset, self.episodes, dreamers, ahead, options.samples, rng, needs)
        backbone = self.model.backbone
        components = state_probes.pixel_pca(self.dataset, found.rows, backbone.latents, backbone.masked_rows)
        found.representations["pixel PCA"] = components
        return found, *state_probes.probe_state(found, self.dataset.quantities, options.seed)

    def _controls(self) -> dict[str, Dreamer]:
        """More cores that are only drawn: one alone may be lucky or unlucky."""
        trained, made = self.dreamer, {}
        for number in range(2, CONTROLS + 1):
            seed = self.run.experiment.seed + 1_000 * number
            memory = self.run.experiment.memory.build(trained.memory.latents, trained.memory.actions, seed)
            memory.use_scale(trained.scale)
            made[f"{MEMORIES[1]} {number}"] = Dreamer(memory, trained.scale)
        return made

    def past(self) -> Past:
        """Stretches of the past that predictions are explained by."""
        length = min(self.options.past, max(len(seen) for seen in self.seen))
        memory, scale = self.dreamer.memory, self.dreamer.scale
        return cut_pasts(self.seen, memory, scale, length, self.options.predictions, self.rng("past"))

    def rng(self, purpose: str) -> torch.Generator:
        """A generator for one purpose."""
        return named_generator(self.options.seed, "world probe", purpose)

    def targets(self) -> list[Target]:
        """What is explained: the reward, the latent that tells most, and the quantities that are best predicted.

        Quantities of `ahead` steps later come first, if a probe reads them at all (R^2 above 0.1), then those of now.
        """
        found, readings, probes = self.state_probe_data
        scale, memory = self.dreamer.scale, f"features, {MEMORIES[0]}"
        latent = int((scale.signal_std / scale.latent_std).argmax())
        targets = [Target("the reward"), Target(f"the change of latent {latent}", latent=latent)]
        read = [each for each in readings if each.representation == memory and each.seen]
        read.sort(
            key=lambda each: (each.score.value > causal.READABLE, each.when != "now", each.score.value), reverse=True
        )
        names: list[str] = []
        for each in read:
            if each.quantity in names or len(names) == self.options.quantities:
                continue
            names.append(each.quantity)
            when = "now" if each.when == "now" else f"in {found.horizon} steps"
            targets.append(
                Target(
                    f"{each.quantity.replace('_', ' ')} {when} (R^2 {each.score.value:.2f})",
                    probe=probes[f"{memory} {each.when}"],
                    column=self.dataset.quantities.index(each.quantity),
                )
            )
            assert each.beyond is not None, "the trained memory has controls"
            self.skills[targets[-1].name] = Skill(each.beyond, "its R^2 beyond the best untrained core's")
        for target in targets[:2]:
            self.skills[target.name] = self._skill(target)
        return targets

    @torch.no_grad()
    def _skill(self, target: Target) -> Skill:
        """How well the memory predicts the reward, or the next change of a latent, one step ahead."""
        memory, scale = self.dreamer.memory, self.dreamer.scale
        read, true, groups = [], [], []
        keys = sorted({episode.key for episode, _ in self.episodes})
        for episode, seen in self.episodes:
            normal = scale.normalise(seen.mean)
            inputs = torch.cat([normal[:-1], seen.actions], 1)[:, None]
            features = memory.core.scan(memory.initial_state(1), inputs)[1][:, 0]
            read.append(target.value(memory, features))
            if target.latent is None:
                true.append(seen.rewards / scale.reward_std)
            else:
                told = normal[:, target.latent]
                changes = memory.config.residual and memory.proposing is None
                true.append(told[1:] - told[:-1] if changes else told[1:])
            groups.append(torch.full((len(seen),), keys.index(episode.key)))
        score, draws = r2_draws(torch.cat(read)[:, None], torch.cat(true)[:, None], torch.cat(groups))
        return Skill(interval_of(float(score[0]), draws[:, 0]))


def attributions(context: ProbeContext) -> ProbeResult:
    """Attribution of predictions to past latents, steps and pixels, each map with its sanity checks."""
    past, memory = context.past(), context.dreamer.memory
    rows, arrays = [], {}
    targets, done = context.targets(), 0
    methods, on_pixels = attribution.methods_for(memory), dict(pixels.PIXEL_METHODS)
    if "layer-wise relevance" not in methods:
        on_pixels.pop("layer-wise relevance")
    of_steps = {"attention": attribution.attention} if isinstance(memory.core, AarenCore) else {}
    total = len(targets) * (len(methods) + len(of_steps) + 1 + len(on_pixels))
    few, shuffles = past.first(context.options.pictured), context.options.shuffles
    present = torch.tensor([context.episodes[number][0].first + step for number, step in few.origins])
    frames, masks = (context.dataset.column(name, present) for name in ("frames", "masks"))
    encode = pixels.differentiable(context.model.backbone)
    arrays["frames"], arrays["masks"] = frames[:EXAMPLES].numpy(), masks[:EXAMPLES].numpy()
    for target in targets:
        asked, skill = attribution.AttributionInput(memory, target, past), context.skills[target.name]
        told = {"target": target.name, "skill": list(skill.score), "skill_of": skill.of}
        drawn_as = target.name.replace(" steps (", " moments (")  # part of the generators' names: other draws otherwise
        rng = context.rng(f"chance {drawn_as}")
        chance: dict[str, attribution.Explain] = {"chance": partial(attribution.random_relevance, rng=rng)}
        for name, explain in {**methods, **chance}.items():
            relevance, checks = check_latents(
                asked, explain, context.rng(f"{drawn_as} {name}"), shuffles=shuffles, skill=skill
            )
            complete = attribution.completeness(asked, relevance)
            rows.append(told | {"method": name, "of": "past latents", "left_out": complete} | checks.plain())
            arrays[f"by_lag/{target.name}/{name}"] = attribution.by_lag(relevance).numpy()
            arrays[f"map/{target.name}/{name}"] = relevance[:EXAMPLES].detach().numpy()
            done += 1
            context.progress(done, total, {})
        for name, explain in of_steps.items():
            relevance, checks = check_steps(asked, explain, context.rng(f"{drawn_as} {name}"), shuffles, skill)
            rows.append(told | {"method": name, "of": "past steps"} | checks.plain())
            arrays[f"by_lag/{target.name}/{name}"] = attribution.by_lag(relevance).numpy()
            done += 1
            context.progress(done, total, {})
        inner = attribution.AttributionInput(memory, target, few)
        seen = pixels.PixelAttributionInput(inner, encode, context.dreamer.scale, frames.float(), context.mean_frame)
        for name, explain_pixels in on_pixels.items():
            rng = context.rng(f"{drawn_as} {name} pixels")
            relevance, checks = check_pixels(
                seen, context.model.backbone, explain_pixels, rng, shuffles=shuffles, skill=skill
            )
            objects = mask_agreement(relevance, masks, context.dataset.objects)
            rows.append(told | {"method": name, "of": "pixels", "objects": objects} | checks.plain())
            arrays[f"pixels/{target.name}/{name}"] = relevance[:EXAMPLES].detach().numpy()
            done += 1
            context.progress(done, total, {})
    linear = context.model.backbone.pixel_maps() is not None
    values: dict[str, Any] = {
        "rows": rows,
        "past": past.inputs.shape[1],
        "latents": memory.latents,
        "linear_backbone": linear,
    }
    if isinstance(memory.core, LMUCore):
        values["recall"] = _recall(memory.core, past)
    return values, arrays


def _recall(core: LMUCore, past: Past) -> list[float]:
    """R^2 of what the Legendre memory says was its input 0, 1, ... steps ago, by closed form."""
    with torch.no_grad():
        state, _ = core.scan(past.state, past.inputs.transpose(0, 1))
        true = core.encoder(past.inputs).flip(1)  # [N, T, channels] by lag
        steps = min(past.inputs.shape[1], int(core.config.window))
        read = core.recall(state, torch.arange(steps)).transpose(1, 2)
        wrong = (read - true[:, :steps]).square().sum((0, 2))
        spread = (true[:, :steps] - true[:, :steps].mean(0)).square().sum((0, 2)).clamp(min=1e-12)
    return [round(float(value), 6) for value in 1 - wrong / spread]


def true_state(context: ProbeContext) -> ProbeResult:
    """What can be read of the true state from latents and memory, now and ahead, and whether the memory uses it."""
    found, readings, _ = context.state_probe_data
    known = [each.quantity for each in readings if each.when == "now" and state_probes.is_known(each)]
    rng, values = context.rng("causal"), {"readings": [each.plain() for each in readings], "ahead": found.horizon}
    try:
        starts = causal.collect_starts(
            context.dataset, context.episodes, context.dreamer, CAUSAL_STEPS, CAUSAL_STARTS, rng
        )
    except ValueError as error:
        return values | {"causal": [], "no_causal": str(error)}, {}
    effects = causal.causal_effects(context.dreamer, starts, context.dataset.quantities, rng, known)
    return values | {"causal": [each.plain() for each in effects], "pushed": len(starts.groups)}, {}


def features(context: ProbeContext) -> ProbeResult:
    """What each layer of the backbone shows of each object, and in which layer it is lost."""
    rng, backbone = context.rng("features"), context.model.backbone
    test = torch.cat([context.dataset.rows("test"), context.dataset.rows("valid")])
    train = context.dataset.rows("train")
    sets = []
    for rows, count in ((train, context.options.frames), (test, max(1, context.options.frames // 2))):
        chosen = rows[torch.randperm(len(rows), generator=rng)[:count]].sort().values
        sets.append(tuple(context.dataset.column(name, chosen) for name in ("frames", "masks")))
    (frames, masks), (new_frames, new_masks) = sets
    found = feature_maps.visibility(backbone, (frames, masks), (new_frames, new_masks), context.dataset.objects)
    shown = feature_maps.thumbnails(backbone, new_frames[0])
    arrays = {f"thumbnails/{name}": values.numpy() for name, values in shown.items()} | {"frame": new_frames[0].numpy()}
    return {
        "objects": [each.plain() for each in found],
        "channels": feature_maps.channel_statistics(backbone, new_frames[:200]),
        "frames": [len(frames), len(new_frames)],
    }, arrays


def dynamics(context: ProbeContext) -> ProbeResult:
    """Gates, memory horizon, effective dimension, fixed points, exponents and state collapse of the memory."""
    options, past = context.options, context.past()
    values: dict[str, Any] = {"horizons": {}, "dimensions": {}, "past": past.inputs.shape[1]}
    arrays: dict[str, NDArray[Any]] = {}
    following = torch.stack(
        [context.dreamer.scale.normalise(context.seen[number].mean[step + 1]) for number, step in past.origins]
    )
    known, _, _ = context.state_probe_data
    for name, dreamer in context.model.dreamers.items():
        memory = dreamer.memory
        mine = past if name == MEMORIES[0] else past._replace(state=memory.initial_state(len(past.inputs)))
        looked = memory_dynamics.gradient_horizon(memory, mine)
        lost = memory_dynamics.occlusion_horizon(memory, mine, following)
        arrays[f"gradient/{name}"], arrays[f"occlusion/{name}"] = looked.mass.numpy(), lost.numpy()
        values["horizons"][name] = {"half": looked.half, "ninety": looked.ninety, "mean": looked.mean}
        spread = memory_dynamics.effective_dimension(known.representations[f"features, {name}"])
        values["dimensions"][name] = spread._asdict()
        context.progress(len(values["horizons"]), 6, {})
    memory = context.dreamer.memory
    if isinstance(memory.core, LSTMCore):
        opened = OpenLSTM.of(memory.core.lstm)
        with torch.no_grad():
            gates = gate_statistics(opened.run(past.inputs.transpose(0, 1), *past.state.chunk(2, 1)))
        arrays["half_life"] = gates.half_life.numpy()
        values["gates"] = {
            gate: {
                "mean": float(gates.mean[gate].mean()),
                "low": float(gates.saturated_low[gate].mean()),
                "high": float(gates.saturated_high[gate].mean()),
            }
            for gate in gates.mean
        }
    context.progress(3, 6, {})
    spectra = memory_dynamics.spectra(context.dreamer, context.seen, options.steps, options.warm_up, options.exponents)
    values["exponents"] = {
        name: {
            "exponents": found.exponents.tolist(),
            "dimension": found.dimension,
            "whole": bool(found.exponents.cumsum(0)[-1] < 0),
        }
        for name, found in spectra.items()
    }
    context.progress(4, 6, {})
    values["fixed_points"] = _fixed_points(context, past)
    context.progress(5, 6, {})
    trained = context.run.experiment.training.length
    run = memory_dynamics.collapse(context.dreamer, context.seen, trained, options.beyond * trained)
    arrays |= {f"size/{name}": rows.numpy() for name, rows in run.sizes.items()}
    arrays |= {f"outside/{name}": rows.numpy() for name, rows in run.outside.items()}
    arrays["nats"] = run.nats.numpy()
    values["collapse"] = {"trained": trained, "steps": options.beyond * trained, "flagged": run.flagged}
    states = known.representations[f"features, {MEMORIES[0]}"]
    away = states - states.mean(0)
    axes = torch.linalg.eigh(away.T.double() @ away.double()).eigenvectors[:, -2:].flip(1).float()
    chosen = torch.linspace(0, len(states) - 1, min(len(states), 600)).long()
    arrays["plane"] = (away[chosen] @ axes).numpy()
    context.progress(6, 6, {})
    return values, arrays


def _fixed_points(context: ProbeContext, past: Past) -> dict[str, Any]:
    """Where the memory comes to rest under the mean latent and the mean action, and in the closed loop of a dream."""
    memory = memory_dynamics.in_double(context.dreamer.memory)
    action = past.baseline[memory.latents :].double()
    starts = past.state[: context.options.starts].double()
    loop = torch.cat([starts, past.inputs[: context.options.starts, -1, : memory.latents].double()], 1)
    maps = {
        "mean latent": (memory_dynamics.driven_map(memory, past.baseline.double()), starts),
        "dream": (memory_dynamics.dreaming_map(memory, action), loop),
    }
    found = {}
    for name, (step, states) in maps.items():
        points = fixed_points(step, memory_dynamics.jacobian_of(step), states, iterations=context.options.search)
        found[name] = memory_dynamics.summary_of(points)
    return found


def latents(context: ProbeContext) -> ProbeResult:
    """What each latent shows: sweeps on a real frame, and the true quantity that goes with it."""
    scale, backbone = context.dreamer.scale, context.model.backbone
    known, _, _ = context.state_probe_data
    means = known.representations["latents"]
    kl = context.kl
    matches = latent_traversals.best_matches(means, known.privileged_state, context.dataset.quantities)
    row = known.rows[len(known.rows) // 2]
    frame = context.dataset.column("frames", row[None])
    code = backbone.encode(frame)[0][0]
    grid = latent_traversals.latent_traversals(backbone.decode, code, scale.signal_std, kl, context.options.traversals)
    read_out = fit_probe(means, known.privileged_state, 1e-2)

    def again(pictures: Tensor) -> Tensor:
        return backbone.encode(to_uint8(pictures))[0]

    values = []
    for each in grid:
        follows = latent_traversals.monotonicity(each, again, read_out.__call__)
        match = matches[each.latent]
        column = context.dataset.quantities.index(match.quantity)
        values.append(
            {
                "latent": each.latent,
                "kl": float(kl[each.latent]),
                "energy": each.energy,
                "area": each.area,
                "frequency": each.frequency,
                "quantity": match.quantity,
                "correlation": match.correlation,
                "rank": match.monotonicity,
                "in_traversal": float(follows[column]),
            }
        )
    shown = torch.stack([each.pictures for each in grid])
    arrays = {
        "pictures": to_uint8(shown).numpy(),
        "difference": torch.stack([each.difference for each in grid]).numpy(),
        "frame": frame[0].numpy(),
    }
    return {"traversals": values, "row": int(row), "latents": len(kl), "steps": len(means)}, arrays


def health(context: ProbeContext) -> ProbeResult:
    """The health of the backbone's latents, by the code that measures task manifolds."""
    rows = context.dataset.rows("test")
    rng = context.rng("health")
    chosen = rows[torch.randperm(len(rows), generator=rng)[: context.options.frames]]
    return latent_health.frame_health(context.model.backbone, context.dataset.column("frames", chosen), rng), {}


PROBES: dict[str, Callable[[ProbeContext], ProbeResult]] = {
    "attribution": attributions,
    "state_probes": true_state,
    "features": features,
    "dynamics": dynamics,
    "latents": latents,
    "health": health,
    "trust": questions.trust_now,
    "seen": questions.seen_and_invented,
    "risk": what_if.counterfactual_risk,
    "situations": questions.situations,
    "interventions": what_if.intervened,
    "past_pixels": past_pictures.past_pictures,
    "latent_tests": questions.latent_tests,
}
"""Sections of a probe report by name."""
