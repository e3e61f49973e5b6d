"""The sections of a probe report: each takes a world model on the table to plain values and arrays."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

from clutr.experiments.world_model.probe_context import EXAMPLES, Arrays, ProbeContext, ProbeResult
from clutr.experiments.world_model.training import MEMORIES
from clutr.probes import attribution, feature_maps, latent_health, latent_traversals, memory_dynamics, state_probes
from clutr.probes import pixel_attribution as pixels
from clutr.probes.attribution_inputs import Past
from clutr.probes.dynamics import fixed_points
from clutr.probes.linear_probes import fit
from clutr.probes.open_lstm import OpenLSTM, gate_statistics
from clutr.probes.sanity_checks import check_latents, check_pixels, check_steps, mask_agreement
from clutr.world_model.cores.aaren import AarenCore
from clutr.world_model.cores.lmu import LMUCore
from clutr.world_model.cores.lstm_gru import LSTMCore


def attributions(context: ProbeContext) -> ProbeResult:
    """To what predictions are due: past latents, moments and pixels, each map with its checks."""
    past, memory = context.past(), context.dreamer.memory
    rows, arrays = [], {}
    targets, done = context.targets(), 0
    methods, on_pixels = attribution.methods_for(memory), dict(pixels.PIXEL_METHODS)
    if "layer-wise relevance" not in methods:
        on_pixels.pop("layer-wise relevance")
    of_moments = {"attention": attribution.attention} if isinstance(memory.core, AarenCore) else {}
    total = len(targets) * (len(methods) + len(of_moments) + 1 + len(on_pixels))
    few = past._replace(
        inputs=past.inputs[: context.options.pictured],
        state=past.state[: context.options.pictured],
        places=past.places[: context.options.pictured],
    )
    present = torch.tensor([context.episodes[number][0].first + moment for number, moment in few.places])
    frames, masks = (context.recording.column(name, present) for name in ("frames", "masks"))
    encode = pixels.differentiable(context.model.backbone)
    arrays["frames"], arrays["masks"] = frames[:EXAMPLES].numpy(), masks[:EXAMPLES].numpy()
    for target in targets:
        asked = attribution.AttributionInput(memory, target, past)
        rng = context.rng(f"chance {target.name}")
        chance: dict[str, attribution.Explain] = {"chance": partial(attribution.random_relevance, rng=rng)}
        for name, explain in {**methods, **chance}.items():
            relevance, verdict = check_latents(asked, explain, context.rng(f"{target.name} {name}"))
            complete = attribution.completeness(asked, relevance)
            rows.append(
                {"target": target.name, "method": name, "of": "past latents", "left_out": complete} | verdict.plain()
            )
            arrays[f"by_lag/{target.name}/{name}"] = attribution.by_lag(relevance).numpy()
            arrays[f"map/{target.name}/{name}"] = relevance[:EXAMPLES].detach().numpy()
            done += 1
            context.progress(done, total, {})
        for name, explain in of_moments.items():
            relevance, verdict = check_steps(asked, explain, context.rng(f"{target.name} {name}"))
            rows.append({"target": target.name, "method": name, "of": "past moments"} | verdict.plain())
            arrays[f"by_lag/{target.name}/{name}"] = attribution.by_lag(relevance).numpy()
            done += 1
            context.progress(done, total, {})
        inner = attribution.AttributionInput(memory, target, few)
        seen = pixels.PixelAttributionInput(inner, encode, context.dreamer.scale, frames.float(), context.mean_frame)
        for name, explain_pixels in on_pixels.items():
            rng = context.rng(f"{target.name} {name} pixels")
            relevance, verdict = check_pixels(seen, context.model.backbone, explain_pixels, rng)
            objects = mask_agreement(relevance, masks, context.recording.objects)
            rows.append({"target": target.name, "method": name, "of": "pixels", "objects": objects} | verdict.plain())
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
    """R^2 of what the Legendre memory says was its input 0, 1, ... moments ago, by closed form."""
    with torch.no_grad():
        state, _ = core.scan(past.state, past.inputs.transpose(0, 1))
        true = core.encoder(past.inputs).flip(1)  # [N, T, channels] by lag
        steps = min(past.inputs.shape[1], int(core.config.window))
        read = core.recall(state, torch.arange(steps)).transpose(1, 2)
        wrong = (read - true[:, :steps]).square().sum((0, 2))
        spread = (true[:, :steps] - true[:, :steps].mean(0)).square().sum((0, 2)).clamp(min=1e-12)
    return [round(float(value), 6) for value in 1 - wrong / spread]


def state_knowledge(context: ProbeContext) -> ProbeResult:
    """What latents and memory know of the true state, now and ahead, beside their controls, and whether it is used."""
    found, readings, probes = context.known
    quantities, dreamer = context.recording.quantities, context.dreamer
    rng, moments = context.rng("causal"), 3
    try:
        state_probe, starts, actions = state_probes.state_probe_and_moments(
            context.recording, context.episodes, dreamer, moments, 200, rng
        )
    except ValueError:
        causal: list[state_probes.CausalEffect] = []
    else:
        read_out, spreads = probes["latents now"], found.privileged_state.std(0)
        causal = state_probes.causal_effects(dreamer, starts, actions, state_probe, read_out, quantities, spreads, rng)
    values = state_probes.plain(readings, causal)
    read = {each.quantity: each.score for each in readings if (each.representation, each.when) == ("latents", "now")}
    for answer in values["causal"]:
        answer["read_out"] = read[answer["quantity"]]
    return values | {"ahead": found.horizon}, {}


def features(context: ProbeContext) -> ProbeResult:
    """What each layer of the backbone shows of each object, and in which layer it is lost."""
    rng, backbone = context.rng("features"), context.model.backbone
    test = torch.cat([context.recording.rows("test"), context.recording.rows("valid")])
    train = context.recording.rows("train")
    sets = []
    for rows, count in ((train, context.options.frames), (test, max(1, context.options.frames // 2))):
        chosen = rows[torch.randperm(len(rows), generator=rng)[:count]].sort().values
        sets.append(tuple(context.recording.column(name, chosen) for name in ("frames", "masks")))
    (frames, masks), (new_frames, new_masks) = sets
    found = feature_maps.visibility(backbone, (frames, masks), (new_frames, new_masks), context.recording.objects)
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
    arrays: Arrays = {}
    following = torch.stack(
        [context.dreamer.scale.normalise(context.seen[number].mean[moment + 1]) for number, moment in past.places]
    )
    known, _, _ = context.known
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
    values["collapse"] = {"trained": trained, "moments": options.beyond * trained, "flagged": run.flagged}
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
    known, _, _ = context.known
    means = known.representations["latents"]
    kl = context.kl
    matches = latent_traversals.best_matches(means, known.privileged_state, context.recording.quantities)
    row = known.rows[len(known.rows) // 2]
    frame = context.recording.column("frames", row[None])
    code = backbone.encode(frame)[0][0]
    grid = latent_traversals.latent_traversals(backbone.decode, code, scale.signal_std, kl, context.options.sweeps)
    read_out = fit(means, known.privileged_state, 1e-2)

    def again(pictures: Tensor) -> Tensor:
        return backbone.encode((pictures.clamp(0, 1) * 255).round().to(torch.uint8))[0]

    values = []
    for each in grid:
        follows = latent_traversals.monotonicity(each, again, read_out.__call__)
        match = matches[each.latent]
        column = context.recording.quantities.index(match.quantity)
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
                "in_sweep": float(follows[column]),
            }
        )
    shown = torch.stack([each.pictures for each in grid])
    arrays = {
        "pictures": (shown.clamp(0, 1) * 255).round().to(torch.uint8).numpy(),
        "difference": torch.stack([each.difference for each in grid]).numpy(),
        "frame": frame[0].numpy(),
    }
    return {"sweeps": values, "row": int(row), "latents": len(kl), "moments": len(means)}, arrays


def health(context: ProbeContext) -> ProbeResult:
    """The health of the backbone's latents, by the code that measures task manifolds."""
    rows = context.recording.rows("test")
    rng = context.rng("health")
    chosen = rows[torch.randperm(len(rows), generator=rng)[: context.options.frames]]
    return latent_health.frame_health(context.model.backbone, context.recording.column("frames", chosen), rng), {}


PROBES: dict[str, Callable[[ProbeContext], ProbeResult]] = {
    "attribution": attributions,
    "knowledge": state_knowledge,
    "features": features,
    "dynamics": dynamics,
    "latents": latents,
    "health": health,
}
"""Sections of a probe report by name."""
