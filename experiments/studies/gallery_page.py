"""The page of the gallery, from the pictures that there are: where each is, what it shows, and what made it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from clutr.experiments.config import Experiment
from clutr.experiments.plots.stills import caption_of
from clutr.experiments.pretrained import Card
from clutr.experiments.studies.model_cards import DOCS, PICTURES, film_command, picture_path, stem
from clutr.experiments.studies.pack_models import command_of
from clutr.experiments.training.presets import PRESETS

SUITE: dict[str, tuple[str, int, int]] = {"maze": ("accel12", 10, 6), "car": ("bezier-small", 2, 5)}
"""Suite, episodes a level and columns of the sheet of a student's paths, by domain."""

HEAD = """\
# Gallery

What there is to see, and the command that shows it. Films and sheets are of the [models that ship](models.md),
curricula of short runs; `python -m clutr.experiments.studies.gallery [RUN ...]` makes them all and this page. One run
or one model each: they show what things look like, not how good a method is.
"""


def map_path(card: Card) -> Path:
    """Where the map of a manifold is."""
    return PICTURES / "gallery" / f"map-{stem(card)}.png"


def suite_path(card: Card) -> Path:
    """Where the sheet of a student's paths is."""
    return PICTURES / "gallery" / f"suite-{stem(card)}.png"


def page_path(name: str) -> Path:
    """Where a page is."""
    return DOCS / f"{name}.md"


def named(cards: Mapping[str, Card], picture: Literal["map", "suite"]) -> list[Card]:
    """Whose map or paths are shown: one model a domain, the best student and the first manifold."""
    kind = {"map": "manifold", "suite": "student"}[picture]
    chosen: dict[str, Card] = {}
    for card in (card for card in cards.values() if card.kind == kind):
        best = chosen.get(card.domain)
        if best is None or (picture == "suite" and card.measured["value"] > best.measured["value"]):
            chosen[card.domain] = card
    return list(chosen.values())


def command_of_run(experiment: Experiment, steps: int) -> str:
    """What trains an experiment, by the preset that needs the fewest other options."""
    found = []
    for name in PRESETS:
        try:
            found.append(command_of(name, experiment, steps))
        except KeyError:  # it has parts with other options
            continue
    return min((command for command in found if ".kind " not in command), key=len, default="clutr train config.yaml")


def gallery_page(cards: Mapping[str, Card]) -> str:
    """`docs/gallery.md`."""
    sections = {
        "Curricula over time": [
            (path, caption_of(path), "") for path in sorted((PICTURES / "gallery").glob("curriculum-*.png"))
        ],
        "Students at play": [
            (PICTURES / "students.gif", "Two students on the same mazes: paths, values, what matters.", STUDENTS),
            *((picture_path(card), f"{card.about}.", film_command(card)) for card in named(cards, "suite")),
        ],
        "Students on suites": [
            (suite_path(card), _suite_words(card), f"clutr eval {card.name} --suite {SUITE[card.domain][0]}")
            for card in named(cards, "suite")
        ],
        "Latent maps": [(map_path(card), _map_words(card), "") for card in named(cards, "map")],
        "Walks on a manifold": [
            (
                picture_path(card),
                f"{card.name}: tasks, the same encoded and decoded, and a straight line of latents.",
                "",
            )
            for card in named(cards, "map")
        ],
        "Dreams beside reality": [
            (picture_path(card), DREAM.format(name=card.name), film_command(card))
            for card in cards.values()
            if card.kind == "world-model"
        ],
    }
    parts = [HEAD]
    for title, shown in sections.items():
        entries = [_entry(*each) for each in shown if each[0].exists()]
        if entries:
            parts.append(f"## {title}\n\n{ABOUT[title]}\n\n" + "\n\n".join(entries) + "\n")
    return "\n".join([*parts, MORE])


def _entry(path: Path, caption: str, command: str) -> str:
    alt = caption.partition(":")[0].partition(".")[0].replace("`", "")
    shown = f"![{alt}]({path.relative_to(DOCS).as_posix()})\n\n{caption}"
    return f"{shown}\n\n```\n{command}\n```" if command else shown


def _suite_words(card: Card) -> str:
    suite, episodes, _ = SUITE[card.domain]
    return (
        f"`{card.name}` on every level of `{suite}`: one of {episodes} episodes each, "
        + (
            "a solved one if there is one (`no`: there is none)"
            if card.domain == "maze"
            else "that of the median return, which is told"
        )
        + ". The pictures say nothing of how often it succeeds; [its card](models.md) does."
    )


def _map_words(card: Card) -> str:
    return (
        f"Fresh tasks that can be solved, on the first two principal components of the latents of `{card.name}`; the "
        + "rest of the variance is not seen, so neighbours need not be alike."
    )


STUDENTS = "clutr film maze-dr@best maze-clutr@best --suite small --paths --values --saliency --output students.gif"
DREAM = (
    "`{name}` watches the beginning of an episode on a road that it was not trained on, then dreams on twice under the "
    + "actions that were taken. How long its dreams are right: [its card](models.md)."
)
ABOUT: dict[str, str] = {
    "Curricula over time": "Rows are ages of a run. `clutr report RUN` has this panel for any run, with more ages.",
    "Students at play": "Films of any run on any suite; every student that ships has one on [its card](models.md).",
    "Students on suites": "Levels that nobody trained on. `clutr report RUN` draws the paths of an evaluated run.",
    "Latent maps": "A task manifold makes tasks points. `clutr inspect NAME` decodes any point of it, live.",
    "Walks on a manifold": "What changes little by little in the latents, and what jumps.",
    "Dreams beside reality": "`clutr world report` and `clutr inspect NAME` show more, with errors beside baselines.",
}
MORE = """\
## The whole story in one picture

![From random tasks over a task manifold and a curriculum to zero-shot results](images/overview.png)

```
clutr demo
```

runs it in minutes and ends with a page of its own. This picture of it is drawn by
`python -m clutr.experiments.studies.overview runs/demo overview.png`.
"""
