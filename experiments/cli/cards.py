"""Cards of models in the terminal."""

from collections.abc import Mapping

from clutr.experiments.cli.arguments import catalogue
from clutr.experiments.pretrained import STEPS, Card, in_words


def cards_table(cards: Mapping[str, Card]) -> str:
    """All models: name and size, and in a few lines what each is, how it was trained, and how good it is."""
    entries = []
    for name, card in cards.items():
        lines = [card.about, in_words(card.measured), card.note]
        lines.append(f"{card.steps:,} {STEPS[card.kind]}, seed {card.seed}; {card.size / 1e6:.2g} MB")
        first, *others = filter(None, lines)
        entries += [(name, first), *(("", line) for line in others)]
    return catalogue(entries)


def whole_card(card: Card) -> str:
    """Everything that is known about one model but its whole configuration."""
    more = card.measured.get("more", {})
    rows = {
        "what": card.about,
        "trained by": card.command,
        "trained for": f"{card.steps:,} {STEPS[card.kind]}, seed {card.seed}, code of commit {card.commit[:12]}",
        "how good": in_words(card.measured),
        "and": "; ".join(f"{what} {value:.3g}" for what, value in more.items()),
        "note": card.note,
        "licence": card.licence,
        "file": f"{card.weights} ({card.size:,} bytes, {card.precision})",
        "sha256": card.sha256,
    }
    return catalogue((what, value) for what, value in rows.items() if value)
