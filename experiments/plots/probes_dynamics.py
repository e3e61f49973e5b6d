"""Pictures of how a memory moves, of the latents' health, and of what a student remembers."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from clutr.experiments.plots.charts import axes, label_axes, placeholder, to_svg
from clutr.experiments.plots.html import MISSING, card, facts_table, grid, legend, number, percent, text
from clutr.experiments.plots.page import Panel, join_caption
from clutr.experiments.plots.probes import MEMORY_ROLES, RUN_ROLES, Arrays, badge, table, two


def _curves(plot: Axes, arrays: Arrays, group: str, roles: Mapping[str, str]) -> None:
    for name, role in roles.items():
        if f"{group}/{name}" in arrays:
            plot.plot(arrays[f"{group}/{name}"], color=placeholder(role), linewidth=1.5)


def dynamics_panel(values: Mapping[str, Any], arrays: Arrays, source: str) -> Panel:
    """How the memory moves."""
    cards = []
    for group, title, y in (
        ("gradient", "How far back slopes look", "share of the gradient"),
        ("occlusion", "What hiding a moment costs", "nats a dimension"),
    ):
        figure, plot = axes()
        _curves(plot, arrays, group, MEMORY_ROLES)
        label_axes(plot, "moments ago", y)
        cards.append(card(title, to_svg(figure, f"probe-{group}", title)))
    if "half_life" in arrays:
        figure, plot = axes()
        lives = np.log10(np.clip(arrays["half_life"], 0.1, 1e4))
        plot.hist(lives, bins=24, color=placeholder("accent"))
        plot.set_xticks([-1, 0, 1, 2, 3, 4], ["0.1", "1", "10", "100", "1k", "10k"])
        label_axes(plot, "moments until half a cell is forgotten", "cells")
        gates = values["gates"]
        remark = ", ".join(f"{name} shut {percent(g['low'])}, open {percent(g['high'])}" for name, g in gates.items())
        cards.append(card("Time scales of the cells", to_svg(figure, "probe-half-life", "Half-lives"), remark))
    figure, plot = axes()
    for name, found in values["exponents"].items():
        plot.plot(found["exponents"], color=placeholder(RUN_ROLES["data" if name == "driven" else "dream"]), marker="o",
                  markersize=3)  # fmt: skip
    plot.axhline(0, color=placeholder("muted"), linewidth=0.8)
    label_axes(plot, "exponent", "nats a moment")
    remark = ", ".join(f"{name} {two(found['exponents'][0])}" for name, found in values["exponents"].items())
    cards.append(card("Lyapunov exponents", to_svg(figure, "probe-exponents", "Lyapunov exponents"), remark))
    figure, plot = axes()
    _curves(plot, arrays, "size", RUN_ROLES)
    plot.axvline(values["collapse"]["trained"], color=placeholder("muted"), linewidth=0.8, linestyle=":")
    plot.set_ylim(bottom=0)
    label_axes(plot, "moments", "root mean square of the state")
    cards.append(card("Far beyond the training length", to_svg(figure, "probe-collapse", "State size by moment")))
    figure, plot = axes()
    plot.scatter(arrays["plane"][:, 0], arrays["plane"][:, 1], s=3, color=placeholder("accent"), linewidths=0)
    label_axes(plot, "first component", "second component")
    cards.append(card("The memory's features", to_svg(figure, "probe-plane", "Features in their principal plane")))
    roles = {"data": RUN_ROLES["data"], "constant input": RUN_ROLES["constant"], "dream": RUN_ROLES["dream"]}
    caption = join_caption(
        "Shows time scales and stability of the trained memory; where two memories are drawn, the grey one is the "
        + "control whose core was never trained, and what it also does was not learnt. It does not show why.",
        "Exponents: above 0 near states part (driven: by recorded inputs; dreaming: fed with its own predictions).",
        "Collapse is flagged if most units leave the band of three standard deviations of the training length "
        + "(dotted line) and the state has grown by half; on data also the loss must have risen by half a nat a "
        + "dimension.",
        f"{values['past']} moments of the past; {source}.",
    )
    return Panel(
        "dynamics", "How the memory moves", legend(roles | MEMORY_ROLES) + grid(cards) + _facts(values), caption
    )


def _facts(values: Mapping[str, Any]) -> str:
    """What the curves cannot say."""
    rows = []
    for name, horizon in values["horizons"].items():
        spread = values["dimensions"][name]
        rows.append(
            [
                text(name),
                str(horizon["half"]),
                str(horizon["ninety"]),
                f"{horizon['mean']:.1f}",
                f"{spread['participation']:.1f}",
                f"{spread['entropy']:.1f}",
                str(spread["ninety"]),
            ]
        )
    headings = ("memory", "half within", "90 % within", "mean lag", "participation ratio", "entropy rank", "components")
    body = table(headings, rows)
    facts = []
    for name, found in values["exponents"].items():
        dimension = f"{found['dimension']:.1f}" if found["whole"] else f"at least {found['dimension']:.0f}"
        facts.append((f"dimension, {name}", f"{dimension} (Kaplan and Yorke)"))
    for name, points in values["fixed_points"].items():
        facts.append((f"rest under {name}", _rest(points)))
    flagged = [name for name, flag in values["collapse"]["flagged"].items() if flag]
    told = f"flagged: {', '.join(flagged)}" if flagged else "not flagged"
    facts.append((f"collapse in {values['collapse']['moments']} moments", told))
    return body + facts_table(facts)


def _rest(points: list[dict[str, Any]]) -> str:
    if not points:
        return "no fixed or slow point found from the states that were tried"
    kinds = [
        f"{sum(1 for p in points if p['kind'] == kind)} {kind}" for kind in dict.fromkeys(p["kind"] for p in points)
    ]
    slowest = max((p["slowest_steps"] or 0.0 for p in points), default=0.0)
    return f"{', '.join(kinds)}; largest eigenvalue {points[0]['largest']:.3f}; slowest decay {number(slowest)} moments"


def health_panel(values: Mapping[str, Any], _arrays: Arrays, source: str) -> Panel:
    """Whether the backbone uses its latents."""
    figure, plot = axes(5.2, 2.4)
    kl = sorted(values["kl_per_dimension"], reverse=True)
    plot.bar(range(len(kl)), kl, color=placeholder("accent"))
    label_axes(plot, "latent", "nats a frame")
    cards = [card("KL of each latent", to_svg(figure, "probe-kl", "KL of each latent"))]
    predicted = values.get("predicted")
    if predicted:
        figure, plot = axes(5.2, 2.4)
        plot.semilogy(predicted["eigenvalues"], color=placeholder("method-0"))
        plot.axhline(predicted["threshold"], color=placeholder("bad"), linewidth=1, linestyle=":")
        label_axes(plot, "direction of the frames", "variance")
        cards.append(
            card("Spectrum of the frames and the decoder's noise", to_svg(figure, "probe-spectrum", "Spectrum"))
        )
    kinds, prior = values["variables"], values.get("prior")
    facts = [
        ("active, mixed, passive", f"{kinds['active']}, {kinds['mixed']}, {kinds['passive']}"),
        ("predicted active", str(values["predicted_active_dimensions"] or MISSING)),
        ("latent-use gap", f"{values['latent_use_gap']:,.0f} nats a frame"),
        ("squared error", f"{values['mse']:.2e} of means, {values['noise']:.2e} of draws"),
        ("holes", f"{percent(prior['hole_rate'])} of draws from the prior" if prior else MISSING),
        ("collapsed", "yes" if values["collapsed"] else "no"),
    ]
    caption = (
        "Shows whether latents are used: active ones are known well for every frame, passive ones are the prior. "
        + "Predicted active are directions whose variance exceeds the decoder's noise (dotted), as a linear VAE would "
        + "keep. The latent-use gap is what it costs to be told another frame's latents. Holes are draws from the "
        + "prior that decoding and encoding moves by more than 3 posterior standard deviations; a world model's "
        + "dreams need not "
        + f"go there. It does not show what the latents mean. n = {values['frames']} frames; {source}."
    )
    return Panel("health", "Are the latents used", grid(cards) + facts_table(facts), caption)


def students_panel(values: Mapping[str, Any], _arrays: Arrays, source: str) -> Panel:
    """What a maze student remembers."""
    names = list(dict.fromkeys(each["representation"] for each in values["readings"]))
    mine = {(each["quantity"], each["representation"]): each for each in values["readings"]}
    rows = []
    for quantity, memory in values["memory"].items():
        cells = [text(quantity.replace("_", " "))]
        for name in names:
            each = mine[quantity, name]
            cells.append(f"{each['score']:.2f} <small>sel. {each['selectivity']:.2f}</small>")
        holds = memory["beyond_view"] > 0.05 and memory["beyond_untrained"] > 0.05
        rows.append([*cells, two(memory["beyond_view"]), two(memory["beyond_untrained"]), badge(holds)])
    headings = ("R^2 of", *names, "beyond the view", "beyond untrained", "remembered")
    caption = (
        "Shows how well ridge regression reads the true state from the student's core, on levels that the probe was "
        + "not fitted on; beside it what can be read from the view at the moment, and from the core of a student with "
        + "random weights that walked the same way. Remembered: at least 0.05 more than both. sel. is the score "
        + "beyond a control task with random values by place and heading. It does not show that the student acts on "
        + "it. "
        + f"n = {number(values['rows'])} moments on {values['levels']} random levels, split by level; {source}."
    )
    return Panel("memory", "What the student remembers", table(headings, rows), caption)
