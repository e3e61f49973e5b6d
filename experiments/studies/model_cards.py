"""The page of models that ship, from their cards."""

from collections.abc import Mapping

from clutr.experiments.pretrained import STEPS, Card, in_words

KINDS = {"manifold": "Task manifolds", "student": "Students", "world-model": "World models"}

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
here are not trained yet.
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
        + f"{card.size / 1e6:.2g} MB, {card.precision}, sha256 `{card.sha256[:16]}...`\n"
    )
