"""Charts of a world model's report: whole steps, and words where there is nothing to draw."""

import re

from clutr.experiments.plots.page import Panel
from clutr.experiments.plots.world_model import curves_panel

HELD = {"value": 2.0, "interval": [1.0, 2.0]}


def _panels() -> dict[str, Panel]:
    """Two steps ahead, with rewards that never varied."""
    pictures = {"mse": [0.1, 0.2], "psnr": [20.0, 18.0], "ssim": [0.9, 0.8], "mse_in/goal": [None, None]}
    found = {
        "windows": 3,
        "context": 2,
        "horizons": [1, 2],
        "latents": {"trained": {"nrmse": [0.1, 0.2], "valid_horizon": HELD}},
        "outcomes": {"trained": {"reward_error_share": [None, None]}},
        "pictures": {"trained": pictures},
        "physical": {"trained": {}},
        "read_out_r2": {"speed": 0.912, "heading": -12318.0},
    }
    return {panel.name: panel for panel in curves_panel(found, "a run")}


def test_steps_ahead_are_whole() -> None:
    charts = re.findall(r"<svg.*?</svg>", _panels()["errors"].body, re.DOTALL)
    assert len(charts) == 4, "latents, pictures, PSNR, SSIM"
    for chart in charts:
        labels = re.findall(r"<text[^>]*>([^<]*)</text>", chart)
        along = labels[: labels.index("steps ahead")]
        assert along == ["1", "2"]


def test_what_could_not_be_measured_is_said() -> None:
    body = _panels()["errors"].body
    assert body.count("Nothing could be measured in these dreams.") == 2, "the rewards and the goal's pictures"


def test_an_r2_that_says_nothing_is_put_in_words() -> None:
    body = _panels()["state"].body
    assert "0.91" in body
    assert "below -1: worse than saying the mean" in body
    assert "12318" not in body
