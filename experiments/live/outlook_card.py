"""What would happen under each key, and how far the model may be trusted at this moment."""

import time
from collections.abc import Callable
from typing import Any

from nicegui import run, ui

from clutr.experiments.live.calibration import risk_is_useful, trust_is_useful
from clutr.experiments.live.calibration_words import CALIBRATING, how_to_read
from clutr.experiments.live.outlook import Outlook, Prospect, ask
from clutr.experiments.live.parts import card
from clutr.experiments.live.world_model_session import WorldModelSession
from clutr.experiments.plots.html import percent, text

SECONDS = 0.2
"""Between two looks at whether there is a new moment to ask of."""
PATIENCE = 1.0
"""Seconds for which a moment that does not rest is not asked of: whoever steps has the processor to himself."""
SIGNS = {"": "go on", "left": "◀ left", "up": "▲ up", "down": "▼ down", "right": "▶ right"}
CAR = {"": "as now", "left": "◀ steer left", "up": "▲ gas", "down": "▼ brake", "right": "▶ steer right"}


class OutlookCard:
    """Builds itself into the present page.

    Args:
        session: what is inspected.
        seen: whether somebody looks at this tab.
        calibrated: called once the session has its calibration.
    """

    def __init__(
        self, session: WorldModelSession, seen: Callable[[], bool], calibrated: Callable[[], None] = lambda: None
    ) -> None:
        self.session, self._seen, self._calibrated = session, seen, calibrated
        self._asked, self._last, self._busy, self._answered = -1, -1, False, 0.0
        self._names = SIGNS if session.discrete else CAR
        self._wheels = "wheels_on_road" in session.quantities
        with card("Can it be trusted here, and what would happen if?"):
            self._trust = ui.html("", sanitize=False).classes("w-full").mark("trust")
            self._alarm = ui.label().classes("alarm").mark("alarm").props("role=status")
            self._risks = ui.html("", sanitize=False).classes("w-full").mark("risks")
            with ui.expansion("What these numbers mean, and how good they are").classes("w-full").mark("how-good"):
                self._note = ui.html(f"<p>{CALIBRATING}</p>", sanitize=False).classes("note told-well").mark("worth")
        self._alarm.set_visibility(False)
        self.timer = ui.timer(SECONDS, self._look)

    async def _look(self) -> None:
        """Ask again if the moment is another one, in a thread; where moments come and go, once in a while."""
        moves = self.session.moves
        rests, self._last = moves == self._last, moves
        late = time.monotonic() - self._answered > PATIENCE
        if self._busy or not self._seen() or moves == self._asked or not (rests or late):
            return
        self._busy = True
        try:
            if self.session.calibration is None:
                self._show(await run.io_bound(ask, self.session.question()))  # the model's own belief meanwhile
                await run.io_bound(self.session.calibrate)
                self._calibrated()
                moves = self.session.moves
            self._show(await run.io_bound(ask, self.session.question()))
            self._asked = moves
        finally:
            self._busy, self._answered = False, time.monotonic()

    def _show(self, found: Outlook | None) -> None:
        if found is None:  # the page is closing
            return
        session, known = self.session, self.session.calibration
        trust = session.trust()
        if trust is None or known is None:
            together = f"{found.together} of {found.steps} steps" + (" or more" * (found.together == found.steps))
            rows = meter("the model's own draws stay together for", found.together / found.steps, together)
        else:
            longest, horizon, least = known.trust_figures["steps"], float(trust.horizon), float(trust.at_least)
            told = f"{horizon:.0f} of {longest} steps, at least {least:.0f}"
            doubt = "" if trust_is_useful(known) else " (no better than always saying the mean)"
            where = "the dream's beginning" if session.dreaming else "here"
            rows = meter(f"a dream from {where} holds for{doubt}", horizon / longest, told)
            if session.dreaming:
                rows += self._progress(session.branches[0].dreamt, horizon)
        share = session.unfamiliar()
        if share is not None:
            where = "the last frame before the dream" if session.dreaming else "this frame"
            rows += meter(f"unfamiliar: {where} surprises more than", share, f"{percent(share)} of test frames")
        self._trust.content = f'<div class="meters">{rows}</div>'
        alarm = trust is not None and bool(trust.alarm)
        self._alarm.text = "Alarm: the model has hardly seen the like of this. Do not trust its dreams here." * alarm
        self._alarm.set_visibility(alarm)
        self._risks.content = self._table(found)
        self._note.content = how_to_read(known, session.known, session.run.experiment.seed)

    @staticmethod
    def _progress(dreamt: int, horizon: float) -> str:
        """How much of what it holds for is dreamt."""
        past = dreamt > horizon
        told = f"{dreamt} steps" + (": beyond what it holds for, do not trust it" if past else "")
        return meter("dream 1 has gone on for", min(dreamt / max(horizon, 1.0), 1.0), told, bad=past)

    def _table(self, found: Outlook) -> str:
        known = self.session.calibration
        calibrated = known is not None and risk_is_useful(known)
        what = "wheels off the road" if self._wheels else "the episode ends"
        head = ["key", f"{what}{'' if calibrated else ' (belief)'}", "reward (belief)"]
        body = "".join(self._row(self._names[key], each) for key, each in found.prospects.items())
        when = f"{found.steps} steps" if self.session.discrete else f"a second ({found.steps} steps)"
        belief = "" if calibrated else "; a belief is the model's own, not held against what came, or no better for it"
        return (
            f'<table class="readings risks"><caption>If this key is held for {when}{belief}</caption><thead><tr>'
            + "".join(f'<th scope="col">{name}</th>' for name in head)
            + f"</tr></thead><tbody>{body}</tbody></table>"
        )

    def _row(self, name: str, found: Prospect) -> str:
        share = found.ends if found.leaves is None else found.leaves
        bar = f'<i class="bar"><i style="width:{100 * share:.0f}%"></i></i>'
        return f'<tr><th scope="row">{text(name)}</th><td>{bar} {percent(share)}</td><td>{found.reward:z.2f}</td></tr>'


def meter(name: str, share: float, words: Any, *, bad: bool = False) -> str:
    """A share of 1 as a bar, under its name and its words; red if it is `bad`."""
    told = f"{name} {words}"
    return (
        f'<div class="meter{" bad" if bad else ""}"><span>{text(name)}</span> <b>{text(words)}</b>'
        + '<div class="bar" role="meter" aria-valuemin="0" '
        + f'aria-valuemax="100" aria-valuenow="{100 * share:.0f}" aria-label="{text(told)}">'
        + f'<i style="width:{100 * min(share, 1.0):.0f}%"></i></div></div>'
    )
