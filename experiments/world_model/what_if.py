"""What would happen if: recorded moments in the simulator, under other actions and with moved objects.

Sections of a probe report, like those of `probing`.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from numpy.typing import NDArray
from torch import Tensor

from clutr.envs.car.domain import CarDomain
from clutr.envs.domain import LevelBatch
from clutr.experiments.storage import RunError
from clutr.experiments.world_model.episodes import level_of
from clutr.experiments.world_model.questions import SHOWN, Moments, TooShortError, or_why
from clutr.probes import attribution, interventions, risk
from clutr.probes import pixel_attribution as pixels
from clutr.probes.moved_objects import moved_objects
from clutr.probes.simulator import PlayedOn, RecordedMoment, SimulatedMoments, played_on, simulated
from clutr.world_model.backbones.base import to_uint8
from clutr.world_model.dataset import EpisodeInfo
from clutr.world_model.dream import LatentState
from clutr.world_model.latents import LatentEpisode
from clutr.world_model.linear_probe import LinearProbe, fit_read_out
from clutr.world_model.scene import Palette
from clutr.world_model.views import CarView

if TYPE_CHECKING:
    from clutr.experiments.world_model.probing import ProbeContext, ProbeResult

SECOND = 25
"""Dreamt steps of the risk: a second of a car at two frames an action."""
DRAWS = 4
"""Dreams of each option."""
LOOKS = 5
"""Times within the second at which road is looked for."""
TRAINING_EPISODES = 60
"""Most training episodes on whose moments the risk is fitted."""
LEAST = 10
"""Moments with wheels on the road that are needed."""
SPEEDS = ("forward_speed", "side_speed", "yaw_rate")


def levels_of(context: "ProbeContext", episodes: Sequence[EpisodeInfo]) -> LevelBatch:
    """The level of each episode. Raises `TooShortError` where the dataset holds none."""
    domain = context.run.experiment.domain
    try:
        known = {(each.part, each.key): level_of(context.dataset, domain, each) for each in dict.fromkeys(episodes)}
    except RunError as error:
        raise TooShortError(str(error)) from None
    return domain.level_type.concatenate([known[each.part, each.key] for each in episodes])


def simulated_at(context: "ProbeContext", places: Sequence[tuple[EpisodeInfo, int]]) -> SimulatedMoments:
    """The simulator at steps of episodes. Raises `TooShortError` where it does not get there."""
    dataset, moments = context.dataset, []
    for episode, step in places:
        rows = torch.arange(episode.first, episode.first + step + 1)
        states = dataset.column("privileged_state", rows[[0, -1]])
        moments.append(RecordedMoment(dataset.column("actions", rows[:-1]), states[0], states[1]))
    levels = levels_of(context, [episode for episode, _ in places])
    found = simulated(context.run.experiment.domain, levels, moments, dataset.quantities)
    if not found.reached.any():
        raise TooShortError("the simulator does not get to the recorded moments: they were recorded by another one")
    return found


class _Reader(NamedTuple):
    """How the model's pictures and latents are read."""

    state: LinearProbe
    palette: Palette
    roads: list[int]
    """Numbers of the objects that are road."""


class _Asked(NamedTuple):
    """Moments with wheels on the road, what the simulator did, and what the model dreamt."""

    starts: LatentState
    features: Tensor
    groups: Tensor
    rows: Tensor
    options: dict[str, Tensor]
    played: dict[str, PlayedOn]
    headings: Tensor
    replayed: float
    """Share of moments that the simulator reached."""

    def happened(self, wheels: int) -> Tensor:
        """`[O, M]` bool."""
        return torch.stack([risk.leaves_road(each.states[..., wheels]) for each in self.played.values()])


def _asked(context: "ProbeContext", episodes: Sequence[tuple[EpisodeInfo, LatentEpisode]] | None, each: int) -> _Asked:
    moments = Moments(context, each, SECOND, episodes)
    now = context.dataset.column("privileged_state", moments.rows)
    on_road = (now[:, context.dataset.quantities.index("wheels_on_road")] >= 2).nonzero().flatten()
    if len(on_road) < LEAST or len(moments.groups[on_road].unique()) < 3:
        raise TooShortError(f"{len(on_road)} moments have two wheels on the road: too few to calibrate on")
    reached = simulated_at(context, [moments.places[n] for n in on_road.tolist()])
    options = {risk.AS_RECORDED: moments.actions[:, on_road]}
    options |= risk.options_of(moments.last[on_road], moments.steps)
    played = played_on(context.run.experiment.domain, reached.engine, options)
    kept = reached.reached.nonzero().flatten()
    played = {name: PlayedOn(one.states[:, kept], one.pictures[kept]) for name, one in played.items()}
    mine = on_road[kept]
    return _Asked(
        moments.starts.branch(mine), moments.features[mine], moments.groups[mine], moments.rows[mine],
        {name: actions[:, kept] for name, actions in options.items()}, played,
        reached.engine.agent_position[kept, 2], float(reached.reached.float().mean()),
    )  # fmt: skip


def _looked(steps: int) -> list[int]:
    """Steps at which road is looked for, the last one among them."""
    found: list[int] = torch.linspace(steps / LOOKS, steps, LOOKS).round().long().tolist()
    return found


def _places(asked: _Asked, quantities: Sequence[str]) -> Tensor:
    """`[O, M, K, 2]`: where the simulator's cars were then, right and ahead of where they are now."""
    columns = [quantities.index("x"), quantities.index("y")]
    found = []
    for each in asked.played.values():
        steps = _looked(len(each.states) - 1)
        away = each.states[steps][..., columns] - each.states[0][:, columns]  # [K, M, 2]
        sine, cosine = asked.headings.sin()[:, None], asked.headings.cos()[:, None]
        x, y = away.transpose(0, 1).unbind(-1)
        found.append(torch.stack([cosine * x + sine * y, cosine * y - sine * x], -1))
    return torch.stack(found)


@torch.no_grad()
def _answers(
    context: "ProbeContext", asked: _Asked, reader: _Reader, ways: "list[risk.Ways] | None", rng: torch.Generator
) -> tuple[risk.Answers, list[risk.Ways], Tensor]:
    """What the model says by each kind of reading, the ways (fitted here if there are none), and last pictures."""
    quantities, dreamer, backbone = context.dataset.quantities, context.dreamer, context.model.backbone
    wheels, geometry = quantities.index("wheels_on_road"), CarView.geometry
    restored = dreamer.scale.restore(asked.starts.latent)
    read = reader.state(restored)
    speeds = read[:, [quantities.index(name) for name in SPEEDS]]
    places = _places(asked, quantities)
    ways = ways or [risk.Ways.fit(speeds, each) for each in places]
    present = risk.road_map(backbone.decode(restored).clamp(0, 1), reader.palette, reader.roads)
    kinds: dict[str, list[Tensor]] = {name: [] for name in ("wheels", "pictures", "ways", "latents and memory")}
    ended = []
    for way, actions in zip(ways, asked.options.values(), strict=True):
        lowest = risk.lowest_reading(dreamer, asked.starts, actions, reader.state, wheels, DRAWS, rng)
        kinds["wheels"].append(torch.stack([lowest.mean(0), read[:, wheels]], 1))
        dreamt = dreamer.dream(asked.starts, actions, len(actions), keep_states=False).latents
        looks = [step - 1 for step in _looked(len(actions))]
        shown = [backbone.decode(dreamt[step]).clamp(0, 1) for step in looks]
        roads = [risk.road_under(risk.road_map(each, reader.palette, reader.roads), geometry) for each in shown]
        kinds["pictures"].append(torch.stack(roads, 1))
        kinds["ways"].append(torch.cat([risk.road_along(present, way(speeds), geometry), speeds[:, :1]], 1))
        kinds["latents and memory"].append(torch.cat([asked.starts.latent, asked.features], 1))
        ended.append(to_uint8(shown[-1]))
    readings = {name: torch.stack(each) for name, each in kinds.items()}
    readings["wheels, pictures and ways"] = torch.cat([readings[each] for each in ("wheels", "pictures", "ways")], 2)
    happened = asked.happened(wheels)
    answers = risk.Answers(readings, happened, happened[0], asked.groups)
    return answers, ways, torch.stack(ended)


@or_why
def counterfactual_risk(context: "ProbeContext") -> "ProbeResult":
    """The probability that the wheels leave the road within a second, by option, against the simulator."""
    dataset, domain = context.dataset, context.run.experiment.domain
    if not isinstance(domain, CarDomain) or "wheels_on_road" not in dataset.quantities:
        return {"why_empty": "only cars have wheels that can leave a road"}, {}
    rng = context.rng("risk")
    train_episodes = context.of_split("train")
    few = torch.linspace(0, len(train_episodes) - 1, min(TRAINING_EPISODES, len(train_episodes))).long().tolist()
    train = _asked(context, [train_episodes[n] for n in few], context.options.moments)
    test = _asked(context, None, context.options.moments)
    rows = dataset.rows("train")
    rows = rows[torch.linspace(0, len(rows) - 1, min(len(rows), context.options.frames)).long()]
    frames, masks = (dataset.column(name, rows) for name in ("frames", "masks"))
    left_out = [n for n, name in enumerate(dataset.objects) if name in (*CarView.moving, *CarView.hidden)]
    with torch.no_grad():
        means = torch.cat([context.model.backbone.encode(part)[0] for part in frames.split(500)])
    reader = _Reader(
        fit_read_out(means, dataset.column("privileged_state", rows)),
        Palette.of(frames[:200], masks[:200], left_out),
        [n for n, name in enumerate(dataset.objects) if name in CarView.surfaces["road"]],
    )
    known, ways, _ = _answers(context, train, reader, None, rng)
    asked, _, dreamt = _answers(context, test, reader, ways, rng)
    names = list(test.options)
    model, found = risk.counterfactual_risk(known, asked, names, rng)
    said = model(asked.readings)
    picked = torch.linspace(0, len(test.rows) - 1, min(SHOWN, len(test.rows))).long()
    values: dict[str, Any] = found | {
        "steps": len(next(iter(test.options.values()))),
        "draws": DRAWS,
        "options": names,
        "replayed": test.replayed,
        "examples": [
            {name: [float(said[o, n]), bool(asked.happened[o, n])] for o, name in enumerate(names)}
            for n in picked.tolist()
        ],
    }
    ended = torch.stack([each.pictures[picked] for each in test.played.values()], 1)
    return values, {
        "frames": dataset.column("frames", test.rows[picked]).numpy(),
        "ended": ended.numpy(),
        "dreamt": dreamt[:, picked].transpose(0, 1).numpy(),
    }


@or_why
def intervened(context: "ProbeContext") -> "ProbeResult":
    """Which maps had said what repainting parts, or moving objects in the simulator, does to predictions."""
    past = context.past().first(context.options.pictured)
    places = [(context.episodes[number][0], step) for number, step in past.origins]
    present = torch.tensor([episode.first + step for episode, step in places])
    frames, masks = (context.dataset.column(name, present) for name in ("frames", "masks"))
    values: dict[str, Any] = {}
    arrays: dict[str, NDArray[Any]] = {}
    for how, change in (("repainted", _repainted), ("moved", _moved)):
        try:
            names, made, kept = change(context, places, frames, masks)
        except (ValueError, TypeError) as error:
            values[how] = {"why_empty": str(error)}
            continue
        rows = _judged(context, past, frames, made, kept)
        values[how] = {"rows": rows, "changes": names, "pictures": int(kept.sum())}
        if how == "moved":
            mine = (kept & made.changed.any(-1).any(-1).any(0)).nonzero().flatten()[:SHOWN]
            shown = torch.arange(0, len(names), len(names) // 4 + 1)
            arrays["frames"] = frames[mine].numpy()
            arrays["moved"] = made.frames[shown][:, mine].to(torch.uint8).transpose(0, 1).numpy()
            values["shown"] = [names[n] for n in shown.tolist()]
    if all("why_empty" in each for each in values.values()):
        return {"why_empty": "; ".join(each["why_empty"] for each in values.values())}, {}
    return values, arrays


_Places = Sequence[tuple[EpisodeInfo, int]]
_Changes = tuple[list[str], interventions.Interventions, Tensor]
"""Names of K changes, what would be seen, and of which of N pictures `[N]` bool they count."""


def _repainted(context: "ProbeContext", _: _Places, frames: Tensor, masks: Tensor) -> _Changes:
    objects = context.dataset.objects
    what, ground = (("road", "kerb"), "grass") if "grass" in objects else (("wall", "goal"), "floor")
    if ground not in objects:
        raise TooShortError(f"nothing to repaint: objects are {', '.join(objects)}")
    made = interventions.repaint(frames.float(), masks, objects, what, ground)
    names = [f"{' and '.join(what)} as {ground}, square {n + 1}" for n in range(len(made.frames))]
    return names, made, torch.ones(len(frames), dtype=torch.bool)


def _moved(context: "ProbeContext", places: _Places, frames: Tensor, masks: Tensor) -> _Changes:  # noqa: ARG001
    stands = simulated_at(context, places)
    names, made = moved_objects(context.run.experiment.domain, stands.engine, context.rng("moved"))
    return names, made, stands.reached


def _judged(
    context: "ProbeContext", past: attribution.Past, frames: Tensor, made: interventions.Interventions, kept: Tensor
) -> list[dict[str, Any]]:
    """Each method's map of each target beside what the changes do, and a random map."""
    memory, scale = context.dreamer.memory, context.dreamer.scale
    encode = pixels.differentiable(context.model.backbone)
    methods = dict(pixels.PIXEL_METHODS)
    if "layer-wise relevance" not in attribution.methods_for(memory):
        methods.pop("layer-wise relevance")
    made = interventions.Interventions(made.frames[:, kept], made.changed[:, kept])
    mine = kept.nonzero().flatten().tolist()
    chosen = attribution.Past(past.inputs[mine], past.state[mine], past.baseline, [past.origins[n] for n in mine])
    noise = torch.randn(frames[mine].shape[:3], generator=context.rng("chance of interventions"))
    rows = []
    for target in context.targets():
        inner = attribution.AttributionInput(memory, target, chosen)
        asked = pixels.PixelAttributionInput(inner, encode, scale, frames[mine].float(), context.mean_frame)
        effects = interventions.effects_of(asked, asked.frames, made)
        maps = {name: explain(asked).detach() for name, explain in methods.items()} | {"chance": noise}
        for name, relevance in maps.items():
            check = interventions.check_with_interventions(relevance, made, effects)
            told = None if check is None else list(check.agreement)
            beyond = None if check is None else list(check.beyond_even)
            passed = check is not None and check.passed and context.skills[target.name].enough
            rows.append(
                {"target": target.name, "method": name, "agreement": told, "beyond_even": beyond, "passed": passed}
            )
    return rows
