"""The page around the panels: one HTML file that needs nothing else."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import resources

from clutr.experiments.plots.charts import PALETTE
from clutr.experiments.plots.html import headline_numbers, text


@dataclass(frozen=True)
class Panel:
    """A titled part of a page."""

    name: str
    """One word, unique on the page: the anchor that links lead to, and what they say."""
    title: str
    body: str
    """HTML."""
    caption: str
    """What is shown, what is not, of how many, from which seed and split. Plain text."""

    def html(self) -> str:
        """The panel as HTML."""
        return (
            f'<section class="panel" id="{text(self.name)}"><h2>{text(self.title)}</h2>\n'
            + f'{self.body}\n<p class="caption">{text(self.caption)}</p></section>'
        )


def join_caption(*sentences: str) -> str:
    """Join the sentences that are there."""
    return " ".join(sentence.strip() for sentence in sentences if sentence.strip())


def theme() -> str:
    """The palette as CSS variables. Paper is always light, so the dark theme is for screens."""
    light = "".join(f"--{role}:{pair[0]};" for role, pair in PALETTE.items())
    dark = "".join(f"--{role}:{pair[1]};" for role, pair in PALETTE.items())
    return f":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n"


def render_page(
    title: str,
    kicker: str,
    lead: str,
    panels: Sequence[Panel],
    facts: Iterable[tuple[str, str, str]] = (),
    footer: str = "Made from the run's files alone.",
) -> str:
    """Put panels on a page.

    Args:
        title: the page's name.
        kicker: a few words above the title that say what kind of page it is.
        lead: a sentence or two about what is shown.
        panels: in reading order.
        facts: headline numbers of the title block: (what, value, a remark or nothing).
        footer: plain text at the end.

    Returns:
        A complete HTML document without any reference outside itself.
    """
    files = resources.files("clutr.experiments.plots")
    style = theme() + (files / "page.css").read_text(encoding="utf-8")
    script = (files / "page.js").read_text(encoding="utf-8")
    links = "".join(f'<a href="#{text(panel.name)}">{text(panel.name.capitalize())}</a>' for panel in panels)
    introduction = f'<p class="lead">{text(lead)}</p>' if lead else ""
    body = "\n".join(panel.html() for panel in panels)
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text(title)}</title>
<style>
{style}</style>
</head>
<body>
<header><p class="kicker">{text(kicker)}</p><h1>{text(title)}</h1>
{introduction}{headline_numbers(facts)}
</header>
<nav aria-label="Contents">{links}</nav>
<main>
{body}
</main>
<footer>{text(footer)}</footer>
<script>
{script}</script>
</body>
</html>
"""
