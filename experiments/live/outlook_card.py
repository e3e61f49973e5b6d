"""What would happen under each key, and how far the model may be trusted at this moment."""

from collections.abc import Callable
from typing import Any

from nicegui import run, ui

from clutr.experiments.live.outlook import DRAWS, UNFAMILIAR, Outlook, Prospect, ask
from clutr.experiments.live.parts import card
from clutr.experiments.live.world_model_session import WorldModelSession
from clutr.experiments.plots.html import percent, text

SECONDS = 0.4
"""Between two looks at whether there is a new moment to ask of."""
SIGNS = {"": "go on", "left": "◀ left", "up": "▲ up", "down": "▼ down", "right": "▶ right"}
CAR = {"": "as now", "left": "◀ steer left", "up": "▲ gas", "down": "▼ brake", "right": "▶ steer right"}


class OutlookCard:
    """Builds itself into the present page.

    Args:
        session: what is inspected.
        seen: whether somebody looks at this tab.
    """

    def __init__(self, session: WorldModelSession, seen: Callable[[], bool]) -> None:
        self.session, self._seen = session, seen
        self._asked, self._busy = -1, False
        self._names = SIGNS if session.discrete else CAR
        question = session.question()
        self._wheels = question.wheels is not None
        when = f"{question.steps} steps" if session.discrete else f"a second ({question.steps} steps)"
        with card("Can it be trusted here, and what would happen if?"):
            self._trust = ui.html("", sanitize=False).classes("w-full").mark("trust")
            self._alarm = ui.label().classes("alarm").mark("alarm").props("role=status")
            self._risks = ui.html("", sanitize=False).classes("w-full").mark("risks")
            ui.label(self._note(when)).classes("note")
        self.timer = ui.timer(SECONDS, self._look)

    def _note(self, when: str) -> str:
        session = self.session
        r2 = session.known.r2[session.quantities.index("wheels_on_road")] if self._wheels else None
        risk = (
            "Risk: the share of drawn dreams in which fewer than two wheels are on the road at some step, as a linear "
            + f"read-out of the latents says (R² {r2:.2f} on test frames). "
            if r2 is not None
            else ""
        )
        return (
            f"Each key is held for {when} in {DRAWS} dreams drawn at temperature 1. {risk}Together: for how many steps "
            + "the draws of going on as now stay alike. Unfamiliar: the share of held-out frames that surprised the "
            + f"memory less (n = {len(session.known.surprises):,} of the test split). Not calibrated against the "
            + "simulator: what the model believes, not what is so."
        )

    async def _look(self) -> None:
        """Ask again if the moment is another one; in a thread, so that no step waits for it."""
        if self._busy or not self._seen() or self.session.moves == self._asked:
            return
        self._busy, moves = True, self.session.moves
        try:
            question = self.session.question()
            found = await run.io_bound(ask, question)
            if found is not None:
                self._show(found)
            self._asked = moves
        finally:
            self._busy = False

    def _show(self, found: Outlook) -> None:
        share = self.session.unfamiliar()
        where = "the last frame before the dream" if self.session.dreaming else "this frame"
        together = f"{found.together} of {found.steps} steps" + (" or more" if found.together == found.steps else "")
        rows = meter("drawn dreams stay together for", found.together / found.steps, together)
        if share is not None:
            rows += meter(f"unfamiliar: {where} surprises more than", share, f"{percent(share, 1)} of test frames")
        self._trust.content = f'<div class="meters">{rows}</div>'
        alarm = share is not None and share > UNFAMILIAR
        self._alarm.text = "Alarm: the model has hardly seen the like of this. Do not trust its dreams here." * alarm
        self._alarm.set_visibility(alarm)
        head = ["key", "off the road" if self._wheels else "the episode ends", "reward"]
        body = "".join(self._row(self._names[key], each) for key, each in found.prospects.items())
        self._risks.content = (
            '<table class="readings risks"><caption>If this key is held</caption><thead><tr>'
            + "".join(f'<th scope="col">{name}</th>' for name in head)
            + f"</tr></thead><tbody>{body}</tbody></table>"
        )

    def _row(self, name: str, found: Prospect) -> str:
        share = found.ends if found.leaves is None else found.leaves
        bar = f'<i class="bar"><i style="width:{100 * share:.0f}%"></i></i>'
        return f'<tr><th scope="row">{text(name)}</th><td>{bar} {percent(share)}</td><td>{found.reward:z.2f}</td></tr>'


def meter(name: str, share: float, words: Any) -> str:
    """A share of 1 as a bar with its name before and its words behind it."""
    told = f"{name} {words}"
    return (
        f'<div class="meter"><span>{text(name)}</span><div class="bar" role="meter" aria-valuemin="0" '
        + f'aria-valuemax="100" aria-valuenow="{100 * share:.0f}" aria-label="{text(told)}">'
        + f'<i style="width:{100 * share:.0f}%"></i></div><b>{text(words)}</b></div>'
    )
