"""The gallery: its pictures are of the models that ship, its page of the pictures, and each says what made it."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from clutr.experiments.plots.stills import Row, caption_of, sheet, write_still
from clutr.experiments.pretrained import cards
from clutr.experiments.run_directory import RunDirectory
from clutr.experiments.studies.gallery import AGES, LEVELS, caption_of_run, draw_curriculum, farthest
from clutr.experiments.studies.gallery_page import command_of_run, gallery_page, named, page_path
from clutr.experiments.studies.model_cards import MADE_FROM, PICTURES, film_command, picture_path
from clutr.experiments.training.presets import PRESETS
from clutr.experiments.training.train import train

CARDS = cards()
RENEW = "run `python -m clutr.experiments.studies.gallery`"


def test_the_page_is_made_from_the_pictures_that_there_are() -> None:
    assert page_path("gallery").read_text() == gallery_page(CARDS), RENEW


def test_every_model_has_a_picture_made_from_its_weights() -> None:
    made_from = json.loads(MADE_FROM.read_text())
    assert made_from == {name: CARDS[name].sha256 for name in sorted(CARDS)}, RENEW
    for card in CARDS.values():
        assert picture_path(card).is_file(), f"{card.name}: {RENEW}"


def test_the_pictures_are_few_megabytes() -> None:
    sizes = {path: path.stat().st_size for path in PICTURES.rglob("*.*")}
    assert sum(sizes.values()) < 8_000_000
    assert max(sizes.values()) < 2_000_000, max(sizes, key=lambda path: sizes[path])


def test_one_model_a_domain_is_shown_the_best_student() -> None:
    students = named(CARDS, "suite")
    assert sorted(card.domain for card in students) == sorted({c.domain for c in CARDS.values() if c.kind == "student"})
    for chosen in students:
        mine = [card for card in CARDS.values() if (card.kind, card.domain) == ("student", chosen.domain)]
        assert chosen.measured["value"] == max(card.measured["value"] for card in mine)
        assert film_command(chosen).startswith(f"clutr film {chosen.name} --suite ")


def test_the_command_of_a_run_is_by_the_nearest_preset() -> None:
    demo = replace(PRESETS["demo-clutr"], seed=4)
    assert command_of_run(demo, demo.total_steps) == "clutr train demo-clutr --seed 4"
    accel = PRESETS["maze-accel"]
    assert command_of_run(replace(accel, num_envs=7), 100) == (
        "clutr train maze-accel --seed 1 --num-envs 7 --total-steps 100"
    )


def test_points_that_are_shown_lie_apart() -> None:
    points = torch.tensor([[0.0, 0.1], [0.1, 0.0], [9.0, 0.0], [-9.0, 0.0], [0.0, 0.05]])
    assert set(farthest(points, 3)) == {4, 2, 3} or set(farthest(points, 3)) == {0, 2, 3}
    assert len(farthest(points, 99)) == 5


def test_a_sheet_has_its_rows_and_keeps_its_caption(tmp_path: Path) -> None:
    red, blue = (np.full((16, 16, 3), colour, np.uint8) for colour in ((200, 0, 0), (0, 0, 200)))
    made = sheet([Row([red, blue, red], ["a", "b", "c"], "first\nrow"), Row([blue], label="second")], 32)
    shown = np.asarray(made)
    assert [int((shown == colour).all(2).sum()) for colour in (red[0, 0], blue[0, 0])] == [2 * 32 * 32, 2 * 32 * 32]
    write_still(made, tmp_path / "sheet.png", "What it shows: \u03b2")
    assert caption_of(tmp_path / "sheet.png") == "What it shows: \u03b2"
    with Image.open(tmp_path / "sheet.png") as image:
        assert image.size == made.size


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunDirectory:
    experiment = replace(PRESETS["maze-dr-debug"], evaluate_every=0, record_every=1)
    made = RunDirectory.create(tmp_path_factory.mktemp("gallery") / "dr-s1", experiment)
    train(made, Path(), lambda _: None, lambda _: None)
    return made


def test_a_curriculum_over_time_shows_levels_of_several_ages(run: RunDirectory) -> None:
    drawn = draw_curriculum(run)
    assert len(run.proposals()) == 6
    assert drawn.height == AGES * (72 + 6) + 6
    assert drawn.width > LEVELS * 72
    assert caption_of_run(run) == (
        "dr: levels that it proposed over 1.54k steps of a student, some of each proposal; one run, seed 1: "
        + "`clutr train maze-dr-debug --seed 1 --evaluate-every 0 --record-every 1`."
    )
