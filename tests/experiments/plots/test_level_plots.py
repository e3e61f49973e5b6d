"""Panels of levels, ways, videos, latents and manifolds, and the page around them."""

import base64
import io
import json
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from structure import HOSTILE, Structure

from clutr.envs.capabilities import PathScale
from clutr.experiments.plots import html
from clutr.experiments.plots.gallery import Snapshot, gallery, order_by, spread
from clutr.experiments.plots.latent_map import LatentMapData, latent_map, principal_components, script_json
from clutr.experiments.plots.manifold import manifold
from clutr.experiments.plots.page import Panel, render_page
from clutr.experiments.plots.trajectories import Episode, Recorded, trajectories
from clutr.experiments.plots.videos import Video, videos_panel


@given(st.integers(0, 500), st.integers(0, 20))
def test_spread_keeps_both_ends(length: int, count: int) -> None:
    chosen = spread(length, count)
    assert len(chosen) == min(length, count)
    assert chosen == sorted(set(chosen))
    if len(chosen) > 1:
        assert (chosen[0], chosen[-1]) == (0, length - 1)


def test_order_puts_unmeasured_levels_last() -> None:
    assert order_by(np.array([0.3, np.nan, 0.1]), 3).tolist() == [2, 0, 1]
    assert order_by(None, 3).tolist() == [0, 1, 2]


def test_gallery_shows_every_picture_with_its_caption() -> None:
    images = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    panel = gallery(
        [Snapshot(100, images, ["regret 0.1\nsolved", HOSTILE]), Snapshot(2_000, images[:0], [])], "s", "By x."
    )
    parsed = Structure(panel.html())
    assert sum(tag == "img" for tag, _ in parsed.tags) == 2
    assert "regret 0.1" in parsed.text
    assert HOSTILE in parsed.text
    assert "n = 2 levels of 1 update; split: training; s." in parsed.text
    assert "recorded no proposed levels" in gallery([], "s").html()


def test_trajectories_say_how_episodes_ended() -> None:
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    episodes = [Episode(HOSTILE, image, True, None, "12 moves"), Episode("b", image, False, None, "250 moves")]
    panel = trajectories(Recorded(episodes, "A line."), "s")
    parsed = Structure(panel.html())
    assert HOSTILE in parsed.text
    assert "not solved , 250 moves" in parsed.text
    assert "n = 2 episodes, 1 of them solved" in parsed.text
    assert "A line. One or two episodes a level" in parsed.text
    assert "median return" not in parsed.text
    assert 'class="scale"' not in panel.body
    assert "no recorded test episodes" in trajectories(Recorded([]), "s").html()


def test_trajectories_of_returns_tell_them_and_what_colours_mean() -> None:
    image = np.zeros((4, 4, 3), dtype=np.uint8)
    episodes = [Episode("a", image, True, 901.4, "quick"), Episode("b", image, False, -3.2, "slow")]
    scale = PathScale(("#000000", "#ffffff"), "0", "80 units/s")
    words = Structure(trajectories(Recorded(episodes, "", scale), "s").html()).text
    assert "return 901, solved , quick" in words
    assert "return -3, slow" in words
    assert "0 80 units/s" in words
    assert "The episode with the median return" in words
    assert "a solved and an unsolved" not in words


# --- videos


def test_videos_are_moving_pictures_with_level_and_end() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (5, 32, 40, 3), dtype=np.uint8)
    panel = videos_panel([Video(HOSTILE, frames, True, 612.3, fps=6.25), Video("b", frames[:2], False, -20.0)], "s")
    words = Structure(panel.html()).text
    assert f"{HOSTILE} return 612, solved , 4 steps" in words
    assert "b return -20, 1 steps" not in words
    assert "b return -20, 1 step" in words
    assert 'width="120" height="96"' in panel.body
    [first, _] = re.findall(r"data:image/webp;base64,([A-Za-z0-9+/=]+)", panel.body)
    moving = Image.open(io.BytesIO(base64.b64decode(first)))
    assert getattr(moving, "n_frames", 1) == 5
    moving.seek(3)
    assert np.array_equal(np.asarray(moving.convert("RGB")), frames[3])
    assert moving.info["duration"] == 160


# --- the map


def map_data(n: int, dim: int, sampled: int) -> LatentMapData:
    rng = np.random.default_rng(0)
    return LatentMapData(
        latents=rng.normal(size=(n, dim)),
        steps=np.arange(float(n)),
        scores=np.where(np.arange(n) % 5 == 0, np.nan, rng.random(n)),
        score_name="regret",
        sampled=np.arange(sampled),
        images=rng.integers(0, 256, (sampled, 6, 6, 3), dtype=np.uint8),
        captions=[HOSTILE] * sampled,
    )


def test_principal_components_agree_with_the_covariance() -> None:
    points = np.random.default_rng(3).normal(size=(200, 5)) @ np.diag([4.0, 3.0, 1.0, 1.0, 0.5])
    coordinates, shares = principal_components(points)
    values = np.sort(np.linalg.eigvalsh(np.cov(points.T)))[::-1]
    np.testing.assert_allclose(shares, values[:2] / values.sum())
    np.testing.assert_allclose(coordinates.var(0, ddof=1), values[:2])
    flipped, _ = principal_components(points[::-1])
    np.testing.assert_allclose(flipped[::-1], coordinates, atol=1e-9)


@pytest.mark.parametrize(("n", "dim"), [(1, 4), (2, 1), (3, 2), (400, 16)])
def test_map_has_a_dot_for_every_point(n: int, dim: int) -> None:
    parsed = Structure(latent_map(map_data(n, dim, min(n, 3)), "s").html())
    dots = [str(a["d"]).count("h0") for tag, a in parsed.tags if tag == "path"]
    maps = sum(tag == "svg" for tag, _ in parsed.tags)
    assert maps == (1 if n == 1 else 2)  # the only point has no score
    assert sum(dots) == maps * n
    assert f"n = {n} latents" in parsed.text


def test_map_states_the_share_of_variance() -> None:
    some = map_data(50, 8, 0)
    share = principal_components(some.latents)[1].sum()
    assert f"hold {html.percent(share, 1)} of the variance of 8 dimensions" in latent_map(some, "s").caption


def test_map_thins_out_many_points() -> None:
    panel = latent_map(map_data(9_000, 3, 5), "s")
    assert "9\u202f000 latents, 4\u202f000 of them drawn" in panel.caption
    assert len(panel.body) < 400_000


def test_map_without_latents_says_so() -> None:
    assert "does not use them" in latent_map(None, "s").html()


@given(st.text())
def test_json_in_a_script_reads_back_and_cannot_end_it(words: str) -> None:
    written = script_json({"caption": words})
    assert "<" not in written
    assert json.loads(written) == {"caption": words}


# --- the manifold


def test_manifold_shows_what_was_measured() -> None:
    health = {
        "goal_exact": 0.973,
        "held_out_loss": 12.5,
        HOSTILE: 1,
        "kl_per_dimension": [0.0, 2.0, 0.5],
        "distributions": {"wall_count": {"data": [0.25, 0.25, 0.5], "prior_uniform": [0.0, 0.75, 0.25]}},
        "unknown": {"deeper": "words", "empty": [], "missing": None},
    }
    panel = manifold(health, "s")
    words = Structure(panel.html()).text
    assert "Goal exact 97.3\u202f%" in words
    assert "Held out loss 12.5" in words
    assert "2 of 3 above 0.1 nats" in words
    assert "Wall count" in words
    assert HOSTILE in words


def test_manifold_without_health_says_so() -> None:
    assert "not measured" in manifold(None, "s").html()
    assert "not measured" in manifold({}, "s").html()
    Structure(manifold({"kl": [0.1]}, "s").html())


# --- the page


def test_page_escapes_titles_and_links_to_panels() -> None:
    page = render_page(HOSTILE, "kind", HOSTILE, [Panel("one", HOSTILE, "<p>body</p>", HOSTILE)], footer=HOSTILE)
    parsed = Structure(page)
    assert [a["href"] for tag, a in parsed.tags if tag == "a"] == ["#one"]
    assert [a["id"] for tag, a in parsed.tags if tag == "section"] == ["one"]
    assert sum(tag == "script" for tag, _ in parsed.tags) == 1  # the page's own
    assert parsed.text.count(HOSTILE) == 6
