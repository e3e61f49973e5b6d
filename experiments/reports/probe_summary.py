"""Probe reports in words: what the documentation says of committed numbers."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clutr.experiments.plots.html import two_decimals
from clutr.experiments.plots.probes import sanity_check_rows
from clutr.experiments.plots.students import larger_means
from clutr.experiments.storage import RunError
from clutr.probes.state_probes import TRAINED
from clutr.probes.student_probes import is_remembered

BEGIN, END = "<!-- probe reports: begin -->", "<!-- probe reports: end -->"
"""Marks of the block that is written by `clutr.experiments.studies.probe_report`."""
IMAGES = "images"


def renewed(page: str, block: str) -> str:
    """A page with the text between the marks replaced. Raises `RunError` if it has no marks."""
    if BEGIN not in page or END not in page:
        raise RunError(f"the page has no marks {BEGIN} and {END}")
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n\n{block}\n\n{END}{rest.partition(END)[2]}"


def _told(interval: Sequence[float], digits: int = 2) -> str:
    value, low, high = (f"{each:.{digits}f}" for each in interval)
    return f"{value} [{low}, {high}]"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _table(headings: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join([_row(*headings), _row(*["---"] * len(headings)), *(_row(*each) for each in rows)])


# --- world models


def world_summary(name: str, sections: Mapping[str, Any], episodes: int) -> str:
    """What was found of a world model, ordered by question, and which explanations passed; of what was measured."""
    about, short = next(iter(sections.values()))["about"], name.partition("@")[0]
    explained = ""
    if "attribution" in sections:
        rows, past = sections["attribution"]["rows"], sections["attribution"]["past"]
        explained = f", {rows[0]['predictions']} predictions of {past} steps, {rows[0]['shuffles']} shuffles"
    head = (
        f"### {name}\n\n`python -m clutr.experiments.studies.probe_report {name}` records {episodes} episodes on new "
        + f"roads, probes the model on {about['levels']} episodes of validation and test levels (seed {about['seed']}"
        + f"{explained}) and writes this section; the numbers are in `experiments/results/probes/{short}/`. Sections "
        + "that are not named were not measured."
    )
    questions: dict[str, dict[str, Callable[[Any, str], str]]] = {
        "Can I trust it here?": {"trust": _trust},
        "What did it see?": {"seen": _seen, "interventions": _interventions, "past_pixels": _past},
        "What would happen if?": {"risk": _risk},
        "What does it know?": {"state_probes": _known, "latent_tests": _latents},
    }
    parts = [head]
    for question, asked in questions.items():
        told = [words(sections[section], short) for section, words in asked.items() if section in sections]
        if told:
            parts.append(f"**{question}**\n\n" + "\n\n".join(told))
    parts.append("**Which explanations passed**\n\n" + passed_table(sections))
    return "\n\n".join(parts)


def passed_table(sections: Mapping[str, Any]) -> str:
    """Each explanation, of how many predictions or quantities it was asked, and of which it passed."""
    rows = sanity_check_rows({name: (values, None) for name, values in sections.items()})
    lines = []
    for row in rows:
        words = "a control, which ought to fail" if row["control"] else row["words"].split("; otherwise")[0]
        words = words if row["passed"] or row["control"] else "none"
        lines.append((row["what"], f"{row['passed']} of {row['checked']}", words.replace("|", "/")))
    return _table(("explanation", "passed", "of what"), lines)


def _empty(values: Mapping[str, Any]) -> str | None:
    return f"Not measured: {values['why_empty']}." if "why_empty" in values else None


def _trust(values: Mapping[str, Any], _: str) -> str:
    if told := _empty(values):
        return told
    alarms = ", ".join(f"{share:.2f} for {what}" for what, share in values["alarms"].items())
    return (
        f"Said and true horizon of a dream correlate by {_told(values['rank_correlation'])}; the error is "
        + f"{_told(values['error'], 1)} steps, {values['constant_error'][0]:.1f} for always saying the mean of "
        + f"{values['mean_horizon']:.1f}. The lower bound, made to hold nine times in ten, holds in "
        + f"{_told(values['coverage'])}. The alarm goes off in {_told(values['false_alarms'])} of familiar moments "
        + f"(.05 if calibrated); {alarms}. n = {values['moments']} moments of {values['levels']} levels."
    )


def _seen(values: Mapping[str, Any], short: str) -> str:
    if told := _empty(values):
        return told
    first, last = values["horizons"][0], values["horizons"][-1]
    middle = "10" if "10" in values["budget"] else str(last)
    budget = values["budget"][middle]
    return (
        f"{first} step ahead {values['seen_share'][0]:.0%} of the world had been in view, {last} ahead "
        + f"{values['seen_share'][-1]:.0%}. Of the error {middle} steps ahead {budget['backbone']:.0%} is the "
        + f"backbone's, {budget['motion']:.0%} arises where the world had been seen, {budget['unseen']:.0%} where it "
        + f"had not, {budget['viewer']:.0%} on the viewer and indicators.\n\n"
        + f"![What came, the dream, and the dream with invented pixels tinted]({IMAGES}/probes-{short}-seen.png)"
    )


def _interventions(values: Mapping[str, Any], short: str) -> str:
    if told := _empty(values):
        return told
    words = "Rank correlation of maps with what changing the world does to a prediction, and beyond a map that is "
    parts = [words + "the same everywhere (in brackets; * beyond its interval):"]
    rows = []
    for how in ("moved", "repainted"):
        for row in values[how].get("rows", []):
            if row["agreement"] is not None:
                beyond = f"{row['agreement'][0]:.2f} ({row['beyond_even'][0]:+.2f}{'*' if row['passed'] else ''})"
                rows.append((how, row["target"], row["method"], beyond))
    methods = list(dict.fromkeys(row[2] for row in rows))
    lines = []
    for how, target in dict.fromkeys((row[0], row[1]) for row in rows):
        mine = {row[2]: row[3] for row in rows if row[:2] == (how, target)}
        lines.append((f"{how}: {target}", *(mine.get(method, "-") for method in methods)))
    parts.append(_table(("", *methods), lines))
    parts.append(f"![A curve and kerbs moved in the simulator]({IMAGES}/probes-{short}-moved.png)")
    return "\n\n".join(parts)


def _past(values: Mapping[str, Any], short: str) -> str:
    lines = [
        (row["target"], row["method"], "passed" if row["passed"] else "-",
         _told(row["infidelity"]) if row["infidelity"][0] < 10 else "> 10",
         _told(row["frames"]), _told(row["recency"]), f"{row['shares'][0]:.0%}")
        for row in values["rows"]
    ]  # fmt: skip
    headings = (
        "past frames", "map", "checks", "infidelity", "which frame matters", "later matter more", "on the present",
    )  # fmt: skip
    picture = f"![Relevance of past frames]({IMAGES}/probes-{short}-past.png)"
    return f"{_table(headings, lines)}\n\n{picture}"


def _risk(values: Mapping[str, Any], short: str) -> str:
    if told := _empty(values):
        return told
    pooled = values["pooled"]
    lines = [
        (name, f"{each['share']:.0%}", f"{each['brier'][0]:.3f}", f"{each['constant'][0]:.3f}",
         f"{each['recorded'][0]:.3f}", "-" if each["auroc"] is None else f"{each['auroc']:.2f}")
        for name, each in (*values["by_option"].items(), ("all but as recorded", pooled))
    ]  # fmt: skip
    kinds = ", ".join(f"{name} {each['held_out'][0]:.3f}" for name, each in values["readings"].items())
    worth = "useful" if values["useful"] else "not useful"
    return (
        f"The probability of leaving the road within a second is {worth}: its Brier score under options that the "
        + f"simulator played from the same moments is {_told(pooled['brier'], 3)}, better than each option's share by "
        + f"{_told(pooled['gain'], 3)} and than knowing what the recording did by "
        + f"{_told(pooled['gain_on_recorded'], 3)}. It is computed from {values['chosen']}, which was best on training "
        + f"roads; by kind of reading: {kinds}. n = {values['moments']} moments of {values['levels']} levels, fitted "
        + f"on {values['training_moments']} of {values['training_levels']} others; {values['replayed']:.0%} of the "
        + "moments were reached.\n\n"
        + _table(("option", "leaves", "Brier", "share", "recording", "AUROC"), lines)
        + f"\n\n![Options in the simulator and dreamt]({IMAGES}/probes-{short}-risk.png)"
    )


def _known(values: Mapping[str, Any], _: str) -> str:
    mine = [each for each in values["readings"] if each["representation"] == TRAINED and each["seen"]]
    best = sorted((each for each in mine if each["when"] == "now"), key=lambda each: -each["score"][0])[:4]
    told = ", ".join(f"{each['quantity'].replace('_', ' ')} {each['score'][0]:.2f}" for each in best)
    known = [f"{each['quantity'].replace('_', ' ')} ({each['when']}, by {_told(each['beyond'])})"
             for each in mine if each["known"]]  # fmt: skip
    used = [each for each in values["causal"] if each["asked"]]
    words = "; ".join(
        f"of a push of {each['quantity'].replace('_', ' ')} {_told(each['slope'])} is left, {each['recorded']:.2f} "
        + f"lasts in the recordings, {each['copied']:.2f} if the picture simply stayed: "
        + ("used" if each["passed"] else "not used")
        for each in used
    )
    return (
        f"Told of the present: {told} (R^2). Known beyond the best of three untrained cores: "
        + f"{', '.join(known) or 'nothing'}. {words[:1].upper() + words[1:] or 'No quantity was pushed'}."
    )


def _latents(values: Mapping[str, Any], _: str) -> str:
    if told := _empty(values):
        return told
    hurst = "not measured" if values["hurst"] is None else f"{values['hurst']:.2f}"
    coarse, exact = (two_decimals(values["quantised"][name]) for name in ("9", "not quantised"))
    return (
        f"Latents move by {values['jitter'][0]:.3f} standard deviations under jitter; {values['fewest']['0.95']} of "
        + f"{values['latents']} directions hold 95 % of their variance; a start quantised to 9 values has an error of "
        + f"{coarse}, {exact} not quantised; residuals have a Hurst exponent of {hurst}."
    )


# --- students


def student_summary(name: str, kept: Mapping[str, Any]) -> str:
    """What students look at, know and use."""
    about, short = kept["about"], name.partition("@")[0]
    command = f"python -m clutr.experiments.studies.probe_report {name}"
    parts = [
        f"### {name}\n\n`{command}`: {about['levels']} random levels, seed {about['seed']}, at {about['steps']:,} "
        + f"steps; the numbers are in `experiments/results/probes/{short}/`."
    ]
    for values in kept["students"].values():
        looks = values["looks"]
        best = sorted(looks["objects"].items(), key=lambda pair: -pair[1]["nss"])
        things = ", ".join(f"{thing} {each['nss']:+.2f}" for thing, each in best)
        verdict = "passed" if looks["passed"] else "did not pass"
        parts.append(
            f"**What does it look at?** Hiding by falling saliency changes the action by {_told(looks['deletion'])} "
            + f"more than in random order (of {looks['size']:.2f}), showing brings it nearer by "
            + f"{_told(looks['insertion'])}, and an untrained student's map is worse by "
            + f"{_told(looks['beyond_untrained'])}: the map {verdict} (n = {looks['moments']} moments). Standardised "
            + f"saliency on objects: {things}.\n\n![Steps of an episode, and what matters]({IMAGES}/probes-{short}.png)"
        )
        lines = []
        uses = {each["quantity"]: each for each in values["uses"]}
        for quantity, memory in values["memory"].items():
            use = uses.get(quantity)
            acts = "-"
            if use is not None and use["asked"]:
                acts = f"{_told(use['effect'])}, random {use['control']:.2f}"
                acts += f": used ({larger_means(values, use)})" if use["passed"] else ""
            known = "yes" if is_remembered(memory) else "-"
            lines.append(
                (quantity.replace("_", " "), _told(memory["hidden"]), _told(memory["beyond_view"]),
                 _told(memory["beyond_untrained"]), known, acts)
            )  # fmt: skip
        headings = ("quantity", "R^2", "beyond the view", "beyond untrained", "known", "a push changes the action by")
        parts.append(f"**What does it know, and use?**\n\n{_table(headings, lines)}")
    return "\n\n".join(parts)
