"""The page of models that ship, from their cards."""

from collections.abc import Mapping
from pathlib import Path

from clutr.experiments.pretrained import STEPS, Card, in_words

KINDS = {"manifold": "Task manifolds", "student": "Students", "world-model": "World models"}

DOCS = Path(__file__).resolve().parents[2] / "docs"  # not that of the link through which it was imported
PICTURES = DOCS / "images"
MADE_FROM = PICTURES / "models" / "made-from.json"
"""The hash of each model's weights at the time when its picture was made."""
FILM: dict[str, tuple[str, tuple[str, ...], int, bool]] = {
    "maze": ("small", ("SimpleCrossingS9N2",), 144, True),
    "car": ("bezier-small", ("Bezier01",), 192, False),
}
"""Suite and levels of a student's film, height of its pictures, and whether it shows the way so far, by domain. The
height is a whole multiple of the pictures' own, so that they stay sharp."""

HEAD = """\
# Models that ship

`pip install` brings these models along. `clutr models` lists them, and their names stand wherever a run may:

```
clutr eval maze-dr@best --suite accel12
clutr models maze-dr@best
```

```python
import clutr

student = clutr.load_student("maze-dr@best")
```

`clutr train car-clutr --manifold car-recurrent@best` trains on a task manifold that ships. Where the name of a world
model is opened, a few episodes are recorded first, on levels that the model was not trained on. Weights are
safetensors: loading checks the hash on the card and runs no code. All are MIT. The cards below are written by
`python -m clutr.experiments.studies.pack_models`, which measures what ships. Names with a recipe there that are missing
here are not trained yet. Films and sheets are made by `python -m clutr.experiments.studies.gallery`, all with one seed:
they show an episode or two, not how good a model is. More of them: [Gallery](gallery.md).
"""


def models_page(cards: Mapping[str, Card]) -> str:
    """`docs/models.md`: a paragraph a model, in the order of `KINDS`."""
    parts = [HEAD]
    for kind, heading in KINDS.items():
        mine = {name: card for name, card in cards.items() if card.kind == kind}
        if mine:
            parts.append(f"## {heading}\n\n" + "\n".join(_paragraph(name, card) for name, card in mine.items()))
    return "\n".join(parts)


def _paragraph(name: str, card: Card) -> str:
    more = ", ".join(f"{what} {value:.3g}" for what, value in card.measured.get("more", {}).items())
    note = f" **{card.note}**" if card.note else ""
    return (
        f"**`{name}`** - {card.about}. {in_words(card.measured)}{f' ({more})' if more else ''}.{note} Trained for "
        + f"{card.steps:,} {STEPS[card.kind]} with seed {card.seed} by `{card.command}` (commit {card.commit[:12]}). "
        + f"{card.size / 1e6:.2g} MB, {card.precision}, sha256 `{card.sha256[:16]}...`\n{_picture(card)}"
    )


def picture_path(card: Card) -> Path:
    """Where the film or sheet of a model is."""
    return PICTURES / "models" / f"{stem(card)}.{'png' if card.kind == 'manifold' else 'webp'}"


def stem(card: Card) -> str:
    """What the files of a model's pictures are called."""
    return card.name.replace("@best", "").replace("@", "-")


def film_command(card: Card) -> str:
    """What makes the film of a student or a world model."""
    if card.kind == "world-model":
        return f"clutr film {card.name} --side 128 --output film.webp"
    suite, levels, side, paths = FILM[card.domain]
    shown = "--paths --values" if paths else "--values"
    return (
        f"clutr film {card.name} --suite {suite} --levels {' '.join(levels)} {shown} --side {side} --output film.webp"
    )


def _picture(card: Card) -> str:
    """The picture of a model on the page of cards, as Markdown; nothing if there is none."""
    path, words = picture_path(card), {"student": "at play", "world-model": "dreams", "manifold": "its tasks"}
    if not path.exists():
        return ""
    shown = f"\n![{card.name}: {words[card.kind]}]({path.relative_to(DOCS).as_posix()})\n"
    return shown if card.kind == "manifold" else f"{shown}\n```\n{film_command(card)}\n```\n"
