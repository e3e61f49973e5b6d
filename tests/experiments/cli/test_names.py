"""Names that are read from sources are those that are registered; the words of presets are up to date."""

import sys
from importlib import import_module

import pytest

from clutr.experiments.cli import names
from clutr.experiments.cli.arguments import asking, first_line
from clutr.experiments.cli.completion import options_of
from clutr.experiments.cli.runs import train
from clutr.experiments.training.presets import PRESETS


@pytest.mark.parametrize("shelf", names.ROOMS)
def test_sources_tell_what_is_registered(shelf: str) -> None:
    room = names.ROOMS[shelf]
    known = getattr(import_module(room.module), room.registry)
    ours = [name for name in known if known[name].__module__.startswith("clutr.")]  # tests register others
    assert names.in_sources(room) == {name: first_line(known[name]) for name in ours}
    assert list(names.registered(shelf)) == list(known)


def test_the_words_of_presets_are_up_to_date() -> None:
    assert names.WORDS.read_text() == names.current(), "`python -m clutr.experiments.cli.names` renews them"


def test_presets_are_asked_once_they_are_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(PRESETS, "mine-debug", PRESETS["maze-dr-debug"])
    assert names.presets()["mine-debug"] == names.kept()["presets"]["maze-dr-debug"]
    monkeypatch.delitem(sys.modules, "clutr.experiments.training.presets")
    assert names.presets() == names.kept()["presets"]


def test_presets_of_manifolds_are_those_that_can_be_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    import_module("clutr.experiments.training.lookup")
    asked = {domain: names.manifold_presets(domain) for domain in ("maze", "car")}
    monkeypatch.delitem(sys.modules, "clutr.experiments.training.lookup")
    assert {domain: names.manifold_presets(domain) for domain in ("maze", "car")} == asked
    assert names.manifold_presets("moon") == []


@pytest.mark.parametrize(
    "more", [[], ["--seeds", "1"], ["--student", "sb3-sac"], ["--student", "sb3-recurrent-ppo"], ["--backend", "rllib"]]
)
def test_every_option_that_training_takes_is_kept(more: list[str]) -> None:
    """Else the first look would refuse what the parser takes."""
    kept = names.kept()["training-options"]
    presets = ["car-dr"] if "sb3-sac" in more else PRESETS if not more else ["maze-dr", "maze-clutr-replay"]
    for preset in presets:
        with asking() as told:
            train([preset, *more])
        offered = {option.spelt: option.kind for call in told for option in options_of(*call)}
        assert len(offered) > 5
        assert set(offered) <= set(kept), preset
        assert all(kept[name] in ("", kind) for name, kind in offered.items()), preset


def test_options_and_suites_are_not_known_where_others_may_be_registered() -> None:
    assert names.training_options() == {}
    assert names.suites() == {}
