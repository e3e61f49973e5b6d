"""What the figures of trust and risk mean, and how well each held on levels that its fit had not seen, in words."""

from collections.abc import Sequence
from typing import Any

from clutr.experiments.live.calibration import Calibration, risk_is_useful, trust_is_useful
from clutr.experiments.live.outlook import DRAWS
from clutr.experiments.live.state_readout import StateReadout
from clutr.experiments.plots.charts import css_colour
from clutr.experiments.plots.html import percent, text
from clutr.probes.intervals import Interval
from clutr.probes.trust import CONFIDENCE, FALSE_ALARMS, LAST

CALIBRATING = "Holding dreams against what came on held-out levels; it is done once, and kept beside the model."
SIDE, MARGIN = 120, 26
"""Of a reliability diagram."""


def how_to_read(known: Calibration | None, readout: StateReadout, seed: int) -> str:
    """Paragraphs under the gauges, as HTML."""
    told = [
        f"Unfamiliar: of {len(readout.surprises):,} frames of the test split, the share that surprised it less.",
        f"Reward: mean of {DRAWS} dreams drawn at temperature 1, as far as the episode goes on; what the model "
        + "believes, not held against the simulator.",
    ]
    if known is None:
        return _paragraphs([CALIBRATING, *told])
    told = [_trust(known), *told, _risk(known)]
    split = f"Held-out levels: {known.trust_figures['splits']}; each level's figures are from fits on other levels. "
    return _paragraphs(told) + reliability_diagram(known) + _paragraphs([f"{split}Seed {seed}."])


def _paragraphs(told: Sequence[str]) -> str:
    return "".join(f"<p>{text(each)}</p>" for each in told if each)


def _interval(numbers: Sequence[float]) -> str:
    return str(Interval(*numbers))


def _share(numbers: Sequence[float]) -> str:
    value, low, high = (percent(each) for each in numbers)
    return f"{value} [{low}, {high}]"


def _trust(known: Calibration) -> str:
    found = known.trust_figures
    if known.trust is None:
        return f"For how long a dream holds is not calibrated: {found['why_empty']}."
    verdict = "" if trust_is_useful(known) else " That is no better than a constant: do not act on it."
    alarms = "; ".join(f"{name} raises it in {percent(share)}" for name, share in found["alarms"].items())
    return (
        f"A dream holds while its latents stay within 0.4 of the recorded ones (NRMSE), followed for {found['steps']} "
        + f"steps. The horizon is read from the memory. n = {found['moments']} held-out moments on {found['levels']} "
        + f"levels: rank correlation with what came {_interval(found['rank_correlation'])}, mean error "
        + f"{found['error'][0]:.1f} steps beside {found['constant_error'][0]:.1f} of always saying the mean.{verdict} "
        + f"The lower bound held in {_share(found['coverage'])} (nominal {percent(CONFIDENCE)}). The alarm is raised "
        + f"where the last {LAST} frames surprise more than {percent(1 - FALSE_ALARMS)} of familiar moments; false in "
        + f"{_share(found['false_alarms'])}, {alarms}."
    )


def _risk(known: Calibration) -> str:
    found = known.risk_figures
    if known.risk is None:
        return f"Probabilities are the model's own, from {DRAWS} drawn dreams, not calibrated: {found['why_empty']}."
    auroc = "" if found["auroc"] is None else f", AUROC {found['auroc']:.2f}"
    verdict = (
        ""
        if risk_is_useful(known)
        else " That is not better beyond the interval, so the table has the share of the dreams: do not act on it."
    )
    return (
        f"Risk: the lowest reading of the wheels on the road in {found['draws']} drawn dreams of {found['steps']} "
        + "steps, turned into the probability that all wheels leave the road (Platt scaling). "
        + f"n = {found['moments']} held-out moments on {found['levels']} levels, in {percent(found['share'])} of which "
        + "they did, under the actions that were taken; under other keys, and inside a dream, it is an extrapolation. "
        + f"Brier score {found['brier'][0]:.3f} beside {found['constant_brier'][0]:.3f} of always saying how often, "
        + f"gain {_interval3(found['gain'])}{auroc}.{verdict}"
    )


def _interval3(numbers: Sequence[float]) -> str:
    value, low, high = numbers
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def reliability_diagram(known: Calibration) -> str:
    """How often it happened over how probable it was said to be, with 95 % intervals; nothing without a calibration."""
    bins: Any = known.risk_figures.get("bins")
    if known.risk is None or not bins:
        return ""
    ink, rule, colour = (css_colour(name) for name in ("ink", "rule", "accent"))

    def at(said: float, happened: float) -> tuple[float, float]:
        return MARGIN + said * (SIDE - MARGIN - 6), SIDE - MARGIN - happened * (SIDE - MARGIN - 6)

    (left, ground), (right, top) = at(0, 0), at(1, 1)
    drawn = (
        f'<path d="M{left} {top}V{ground}H{right}" fill="none" style="stroke:{ink}"/>'
        + f'<path d="M{left} {ground}L{right} {top}" fill="none" stroke-dasharray="3 3" style="stroke:{rule}"/>'
    )
    for each in bins:
        x, y = at(each["said"], each["happened"])
        low, high = (at(0, value)[1] for value in each["interval"])
        drawn += f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" style="stroke:{colour}"/>'
        drawn += f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" style="fill:{colour}"/>'
    words = "; ".join(f"said {percent(each['said'])}, happened {percent(each['happened'])}" for each in bins)
    marks = (
        f'<text x="{left}" y="{SIDE - 12}">0</text><text x="{right}" y="{SIDE - 12}" text-anchor="end">1</text>'
        + f'<text x="{(left + right) / 2}" y="{SIDE - 2}" text-anchor="middle">said</text>'
        + f'<text x="{left - 4}" y="{top + 8}" text-anchor="end">1</text>'
        + f'<text x="10" y="{(top + ground) / 2}" text-anchor="middle" '
        + f'transform="rotate(-90 10 {(top + ground) / 2})">happened</text>'
    )
    return (
        f'<svg class="reliability" viewBox="0 0 {SIDE} {SIDE}" role="img" '
        + f'aria-label="{text(f"reliability diagram: {words}")}">{drawn}{marks}</svg>'
    )
