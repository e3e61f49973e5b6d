from typing import Any

import pytest
from structure import Structure

from clutr.experiments.plots.manifold import manifold
from clutr.experiments.plots.manifold_health import HEADLINES, headlines, health_table, look_up

SMOOTHNESS = {"steps": [0.01, 0.1, 0.3], "edits": [1.0, 6.0, 9.0], "chance": 10.0, "rank_correlation": 0.912}
VAE: dict[str, Any] = {
    "recovery": {"task_exact": 0.25, "set_recall": 0.875},
    "kl": 4.5,
    "active_dimensions": 2,
    "predicted_active_dimensions": 3,
    "predicted": {"eigenvalues": [9.0, 2.0, 1.0, 0.1], "threshold": 0.5},
    "kl_per_dimension": [0.0, 4.0, 0.5],
    "kinds": ["passive", "active", "mixed"],
    "posterior_variance": [1.0, 0.1, 0.6],
    "prior_uniform": {"hole_rate": 0.125, "novelty": None, "deviation": 2.5},
    "smoothness": SMOOTHNESS,
}


def test_headlines_are_those_that_were_measured() -> None:
    found = {headline.title: value for headline, value in headlines(VAE)}
    assert found == {
        "task exact": "25.0\u202f%",
        "set recall": "87.5\u202f%",
        "hole rate": "12.5\u202f%",
        "smoothness": "0.912",
        "active dimensions": "2",
        "predicted active": "3",
        "KL": "4.50",
    }
    assert headlines({"recovery": 3, "kl": float("nan"), "active_dimensions": "many"}) == []
    assert look_up({"a": {"b": 1}}, ("a", "b")) == 1
    assert look_up({"a": 1}, ("a", "b", "c")) is None


def test_every_headline_has_a_sentence_of_its_own() -> None:
    assert len({headline.path for headline in HEADLINES}) == len(HEADLINES)
    assert len({headline.title for headline in HEADLINES}) == len(HEADLINES)
    for headline in HEADLINES:
        assert 20 < len(headline.meaning) < 80
        assert not headline.meaning.endswith(".")


def test_a_vae_is_drawn_with_kinds_prediction_and_smoothness() -> None:
    html = manifold(VAE, "s").html()
    words = Structure(html).text
    assert "predicted 3, measured 2" in words
    assert "rank correlation 0.912" in words
    for kind in ("1 active", "1 mixed", "1 passive"):
        assert kind in words
    assert "held-out tasks that encoding and decoding leave as they were" in words
    assert "threshold 0.500" in words
    assert "1 further measurements" not in words
    # the bars by size: the active dimension, the mixed one, the passive one
    bars = [html.index(f"var(--{role}") for role in ("good", "method-1")]
    assert bars == sorted(bars)


@pytest.mark.parametrize("missing", ["kinds", "predicted", "smoothness", "kl_per_dimension", "recovery"])
def test_whatever_was_not_measured_is_left_out(missing: str) -> None:
    health = {name: value for name, value in VAE.items() if name != missing}
    words = Structure(manifold(health, "s").html()).text
    assert ("predicted 3, measured 2" in words) == (missing != "predicted")
    assert ("rank correlation" in words) == (missing != "smoothness")
    assert ("1 passive" in words) == (missing not in ("kinds", "kl_per_dimension"))


def test_an_exact_coder_has_no_chart_of_latents() -> None:
    health = {
        "code_length": 76.5,
        "recovery": {"task_exact": 1.0},
        "smoothness": SMOOTHNESS | {"rank_correlation": None},
    }
    words = Structure(manifold(health, "s").html()).text
    assert "KL per dimension" not in words
    assert "Code length 76.5" in words
    assert "rank correlation \u2013" in words


def test_health_table_says_what_headlines_mean() -> None:
    health = {
        "kl": 1.23456,
        "collapsed": False,
        "dims": 16,
        "per_dim": [1.0],
        "mine": 0.12345,
        "prior_uniform": {"hole_rate": 0.5, "novelty": None, "solvable": 1.0},
    }
    names, values, meanings = (list(column.cells) for column in health_table(health).columns)
    assert names == ["hole rate", "KL", "collapsed", "dims", "mine"]
    assert values == ["50.0\u202f%", "1.23", "False", "16", "0.1235"]
    assert "no likely code" in str(meanings[0])
    assert meanings[3:] == ["", ""]
