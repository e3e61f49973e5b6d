"""Names that are read from sources are those that are registered; the words of presets are up to date."""

import sys
from importlib import import_module

import pytest

from clutr.experiments.cli import names
from clutr.experiments.cli.arguments import first_line
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
