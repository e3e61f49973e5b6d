"""Cards of models in the terminal."""

from collections.abc import Mapping

from rich.table import Table

from clutr.experiments.pretrained import STEPS, Card, in_words


def cards_table(cards: Mapping[str, Card]) -> Table:
    """All models: name and size, and in a few lines what each is, how it was trained, and how good it is."""
    title = "models that ship" if cards else "no model is installed"
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None, padding=(0, 2))
    for name, card in cards.items():
        rows = [card.about, in_words(card.measured), card.note]
        rows.append(f"{card.steps:,} {STEPS[card.kind]}, seed {card.seed}; {card.size / 1e6:.2g} MB")
        table.add_row(name, "\n".join(filter(None, rows)))
    return table


def whole_card(card: Card) -> Table:
    """Everything that is known about one model but its whole configuration."""
    table = Table(title=card.name, title_justify="left", title_style="bold", show_header=False, box=None)
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
    for what, value in rows.items():
        if value:
            table.add_row(what, value)
    return table
