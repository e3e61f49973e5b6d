"""Each model that ships is what its card says."""

from collections import defaultdict
from pathlib import Path

import pytest
import torch

import clutr
from clutr.agents.student import Policy
from clutr.envs.domain import LevelBatch, Suite, Task
from clutr.experiments.config import from_yaml
from clutr.experiments.evaluation.evaluate import Episodes, play
from clutr.experiments.pretrained import Card, cards, located
from clutr.experiments.studies.model_cards import models_page
from clutr.experiments.studies.pack_models import RECIPES

CARDS = cards()
OF_KIND = {
    kind: [card for card in CARDS.values() if card.kind == kind] for kind in ("manifold", "student", "world-model")
}
FEW = 2
"""Episodes a level."""


def name_of(card: Card) -> str:
    return card.name


def test_the_page_is_made_from_the_cards() -> None:
    assert (Path(__file__).parents[2] / "docs" / "models.md").read_text() == models_page(CARDS)


def test_they_are_small_and_have_a_recipe_each() -> None:
    assert sum(card.size for card in CARDS.values()) < 15_000_000
    assert set(CARDS) <= set(RECIPES)
    for name, card in CARDS.items():
        assert (card.name, card.weights.stat().st_size) == (name, card.size)


def episodes(policy: Policy, suite: Suite) -> list[Episodes]:
    """`FEW` on each level. Levels of one size are played at once; an evaluation plays each alone, and takes longer."""
    rng = torch.Generator().manual_seed(1)
    alike = defaultdict[tuple[object, ...], list[tuple[Task, LevelBatch]]](list)
    for task in suite.tasks:
        levels = task.draw(FEW, rng)
        alike[type(levels), *(tensor.shape[1:] for tensor in levels.tensors().values())].append((task, levels))
    found = []
    for group in alike.values():
        joined = type(group[0][1]).concatenate([levels for _, levels in group])
        found.append(play(policy, group[0][0].engine(len(joined)), joined, rng))
    return found


@pytest.mark.parametrize("card", OF_KIND["student"], ids=name_of)
def test_a_student_is_as_good_as_its_card_says(card: Card) -> None:
    suite = clutr.suites(card.domain)[card.measured["suite"]]
    played = episodes(clutr.load_student(card.name), suite)
    value, levels = card.measured["value"], len(suite.tasks)
    if suite.metric == "solved":
        solved = torch.cat([each.solved for each in played])
        assert len(solved) == FEW * levels
        deviation = (value * (1 - value) / (FEW * levels)) ** 0.5
        assert abs(float(solved.double().mean()) - value) <= 4 * deviation + 0.02
    else:
        returns = torch.cat([each.returns for each in played]).view(levels, FEW)
        spread = float(returns.var(1).sum()) ** 0.5 / levels
        assert abs(float(returns.mean()) - value) <= 4 * spread + 20


@pytest.mark.parametrize("card", OF_KIND["manifold"], ids=name_of)
def test_a_manifold_is_as_good_as_its_card_says(card: Card) -> None:
    manifold = clutr.load_manifold(card.name)
    domain = from_yaml(card.config).domain
    levels = clutr.sample_levels(200, domain, seed=7)
    tokens, decoded = (domain.to_tokens(each) for each in (levels, manifold.decode(manifold.encode(levels))))  # type: ignore[attr-defined]
    value, whole = card.measured["value"], float((tokens == decoded).all(1).float().mean())
    assert abs(whole - value) <= 4 * (value * (1 - value) / 200) ** 0.5 + 0.01


@pytest.mark.parametrize("card", OF_KIND["world-model"], ids=name_of)
def test_a_world_model_is_ready(card: Card) -> None:
    """Its dreams are measured when it is packed; here its weights fit, and it decodes what it encodes."""
    model = clutr.load_world_model(card.name)
    frames = torch.zeros(2, 64, 64, 3, dtype=torch.uint8)
    assert torch.isfinite(model.backbone.decode(model.backbone.encode(frames)[0])).all()
    assert (located(card.name) / "recording" / "recording.json").is_file()
