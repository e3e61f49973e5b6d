"""What trust and risk are said with: planted odds, what is kept beside a model, and what is said of a moment."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from planted_calibration import known

from clutr.experiments.live import calibration
from clutr.experiments.live.calibration import FILE, Calibration, calibration_of, risk_is_useful, trust_is_useful
from clutr.experiments.live.calibration_words import how_to_read, reliability_diagram
from clutr.experiments.live.odds import Odds, calibrated_odds
from clutr.experiments.live.world_model_session import WorldModelSession
from clutr.experiments.plots.html import percent
from clutr.experiments.world_model.run_directory import WorldModelRun
from clutr.probes.event_probability import BINS
from clutr.probes.trust import LAST
from clutr.world_model.linear_probe import LinearProbe


@pytest.fixture
def session(maze_world: WorldModelRun) -> WorldModelSession:
    return WorldModelSession(maze_world)


def planted(weight: float, n: int = 900) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Readings, what happened with log-odds `weight` times the reading - 1, and 30 levels."""
    rng = torch.Generator().manual_seed(3)
    readings = 2 * torch.randn(n, generator=rng)
    happened = torch.rand(n, generator=rng) < torch.sigmoid(weight * readings - 1)
    return readings, happened, torch.arange(n) % 30


def test_odds_are_those_that_were_planted() -> None:
    readings, happened, _ = planted(1.5)
    odds = Odds.fit(readings, happened)
    assert odds.weight == pytest.approx(1.5, abs=0.3)
    assert odds.constant == pytest.approx(-1, abs=0.3)
    assert float(Odds(2.0, -1.0)(torch.tensor(0.5))) == 0.5, "the log-odds are 2 * 0.5 - 1 = 0"
    never = Odds.fit(readings[:9], torch.zeros(9, dtype=torch.bool))
    assert float(never(torch.tensor(5.0))) == pytest.approx(0.05), "(0 + 1/2) of (9 + 1)"


def test_a_reading_that_tells_gains_on_held_out_levels_and_one_that_does_not_gains_nothing() -> None:
    readings, happened, groups = planted(1.5)
    _, found = calibrated_odds(readings, happened, groups, torch.Generator().manual_seed(1))
    assert found["gain"][1] > 0
    assert found["auroc"] > 0.85
    assert (found["moments"], found["levels"]) == (900, 30)
    assert found["constant_brier"][0] == pytest.approx(found["share"] * (1 - found["share"]), abs=0.01)
    assert len(found["bins"]) == BINS
    for each in found["bins"]:
        assert each["interval"][0] - 0.03 < each["said"] < each["interval"][1] + 0.03, "it is calibrated"
    _, blind = calibrated_odds(torch.zeros(900), happened, groups, torch.Generator().manual_seed(1))
    assert blind["gain"][1] <= 0
    with pytest.raises(ValueError, match=r"3|three"):
        calibrated_odds(readings[:9], happened[:9], torch.zeros(9, dtype=torch.int64), torch.Generator())


def test_a_calibration_is_fitted_once_and_anew_for_another_model(
    session: WorldModelSession, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[Any] = []
    found = known()

    def counted(*_: Any) -> Calibration:
        calls.append(0)
        return found

    monkeypatch.setattr(calibration, "calibrate", counted)
    for name in ("world.yaml", "backbone.safetensors", "memory-trained.safetensors"):
        (tmp_path / name).write_bytes((session.run.path / name).read_bytes())
    about = WorldModelRun(tmp_path), session.model, session.dataset, session.known.read_out
    first, second = calibration_of(*about), calibration_of(*about)
    assert len(calls) == 1
    assert first.risk_figures == second.risk_figures
    assert second.trust is not None
    assert torch.equal(second.trust.probe.weights, found.trust.probe.weights)  # type: ignore[union-attr]
    assert second.risk == found.risk
    (tmp_path / FILE).write_bytes(b"damaged")
    calibration_of(*about)
    assert len(calls) == 2, "what cannot be read is made anew"
    (tmp_path / "backbone.safetensors").write_bytes(b"another one")
    calibration_of(*about)
    assert len(calls) == 3


def test_a_world_model_of_mazes_has_no_risk_of_wheels_and_says_so(session: WorldModelSession) -> None:
    found = session.calibrate()
    assert found is session.calibrate(), "it is made once"
    assert (session.run.path / FILE).is_file()
    assert found.risk is None
    assert "nothing here has wheels" in found.risk_figures["why_empty"]
    assert session.question().odds is None
    told = how_to_read(found, session.known, 1)
    assert "not calibrated: nothing here has wheels" in told
    assert "test and validation splits" in told
    assert found.trust is not None or "is not calibrated: " in told


def test_what_is_said_of_a_moment_is_read_from_the_memory_and_the_last_frames(session: WorldModelSession) -> None:
    width = session.course.features(1).shape[1]
    found = known()
    weights = torch.linspace(-1, 1, width)[:, None]
    assert found.trust is not None
    trust = found.trust._replace(probe=LinearProbe(weights, torch.tensor([1.0]), 0.0))
    session.calibration = replace(found, trust=trust)
    session.seek(LAST - 1)
    assert session.trust() is None, "of the first frame nothing was expected, so five are not there"
    session.seek(LAST + 2)
    told = session.trust()
    assert told is not None
    inputs = torch.cat([session.course.means[: LAST + 2], session.episode.actions[: LAST + 2]], 1)[:, None]
    memory = session.dreamer.memory
    _, features = memory.core.scan(memory.initial_state(1), inputs)
    said = float(features[-1, 0].detach() @ weights[:, 0]) + 1
    assert float(told.horizon) == pytest.approx(max(0.0, torch.tensor(said).exp().item() - 1), rel=1e-3, abs=1e-4)
    recent = session.course.surprises[3 : LAST + 3].mean()
    assert float(session.course.recent_surprises()[LAST + 2]) == pytest.approx(float(recent), rel=1e-5)
    assert bool(told.alarm) == bool(recent > 0)
    session.branch()
    session.step()
    assert session.trust() == told, "a dream is trusted as its beginning was"


def test_what_is_driven_is_as_surprising_as_what_is_recorded(session: WorldModelSession) -> None:
    session.drive()
    for _ in range(3):
        session.step({"right"})
    grown = session.course.surprises
    assert len(grown) == len(session.episode.frames) == 4
    session._show(session.episode)  # looked through at once
    torch.testing.assert_close(session.course.surprises, grown, equal_nan=True, rtol=1e-4, atol=1e-4)


def test_alarms_are_where_they_begin(session: WorldModelSession) -> None:
    assert session.alarms() == [], "nothing is calibrated yet"
    recent = session.course.recent_surprises()
    assert recent[:LAST].isnan().all()
    session.calibration = known(limit=float(recent[LAST:].min()) - 1)
    assert session.alarms() == [LAST], "above the limit from the first moment on"
    session.calibration = known(limit=float(recent[LAST:].max()))
    assert session.alarms() == []
    middle = float(recent[LAST:].median())
    session.calibration = known(limit=middle)
    assert all(recent[each] > middle and not recent[each - 1] > middle for each in session.alarms())


def test_figures_that_are_no_better_than_a_constant_are_called_so(session: WorldModelSession) -> None:
    good, bad = known(), known(gain=0.01)
    assert risk_is_useful(good)
    assert trust_is_useful(good)
    assert not risk_is_useful(bad)
    told = how_to_read(good, session.known, 1)
    assert "rank correlation with what came 0.60 [0.50, 0.70]" in told
    assert "The lower bound held in 91" in told
    assert "do not act on it" not in told
    assert "do not act on it" in how_to_read(bad, session.known, 1)
    useless = replace(good, trust_figures=good.trust_figures | {"rank_correlation": [0.1, -0.1, 0.3]})
    assert not trust_is_useful(useless)
    assert reliability_diagram(good).count("<circle") == BINS
    assert f"said {percent(0.8)}, happened {percent(0.8)}" in reliability_diagram(good)
    assert reliability_diagram(replace(good, risk=None)) == ""
    session.calibration = bad
    assert session.question().odds is None, "the dreams' own share is shown then"
    session.calibration = good
    assert session.question().odds == good.risk
    assert session.question().steps == 25
