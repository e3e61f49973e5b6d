"""Roads as tiles, beside those of the package."""

from typing import Any

import gymnasium
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from clutr.envs.car.road.crossings import crossings
from clutr.envs.car.road.track import HALF_WIDTH, KERB_TILES, KERB_WIDTH, Track, _kerbs


def ring(n: int, radius: float = 80.0) -> NDArray[np.float64]:
    angles = np.linspace(0, 2 * np.pi, n, endpoint=False)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_tiles_and_kerbs_are_the_packages(seed: int) -> None:
    env: Any = gymnasium.make("CarRacing-v3").unwrapped
    env._render = lambda _: None
    env.reset(seed=seed)
    table = np.asarray(env.track, dtype=np.float64)
    turns = table[:, 1] - np.roll(table[:, 1], 1)  # as the package: not reduced to half a turn at the start
    track = Track(table[:, 2:], table[:, 1], turns, _kerbs(turns, 0.31 * 0.2))
    quads, kerb_quads = track.quads(), track.kerb_quads()
    ours: list[NDArray[np.float64]] = []
    colours: list[tuple[int, int, int] | None] = []
    for index in range(len(track)):
        ours.append(quads[index])
        colours.append(None)
        if track.kerbs[index]:
            ours.append(kerb_quads[index])
            colours.append((255, 255, 255) if index % 2 == 0 else (255, 0, 0))
    assert len(ours) == len(env.road_poly)
    assert [colour if isinstance(colour, tuple) else None for _, colour in env.road_poly] == colours
    assert np.allclose(np.array(ours), np.array([poly for poly, _ in env.road_poly]), atol=1e-9)
    assert track.start == pytest.approx(env.track[0][1:4])
    assert track.kerbs.any()


def test_a_ring_by_hand() -> None:
    track = Track.from_centre_line(ring(100))
    assert len(track) == 100
    assert track.length == pytest.approx(100 * 2 * 80 * np.sin(np.pi / 100))
    beta, x, y = track.start
    assert (x, y) == (80, 0)
    assert (-np.sin(beta), np.cos(beta)) == pytest.approx((0, 1)), "driven in the order of the points"
    left, right, before_right, before_left = track.quads()[0]
    assert left == pytest.approx([80 - HALF_WIDTH, 0])
    assert right == pytest.approx([80 + HALF_WIDTH, 0])
    turn = 2 * np.pi / 100
    assert before_right == pytest.approx((80 + HALF_WIDTH) * np.array([np.cos(turn), -np.sin(turn)]))
    assert before_left == pytest.approx((80 - HALF_WIDTH) * np.array([np.cos(turn), -np.sin(turn)]))
    # every turn is to the left, so a kerb would stand on the left
    inner = np.linalg.norm(track.kerb_quads()[:, 0], axis=1), np.linalg.norm(track.kerb_quads()[:, 1], axis=1)
    assert inner[0] == pytest.approx(np.full(100, 80 - HALF_WIDTH))
    assert inner[1] == pytest.approx(np.full(100, 80 - HALF_WIDTH - KERB_WIDTH))


def naive_kerbs(track: Track) -> list[bool]:
    n = len(track)
    turns = [float(np.angle(np.exp(1j * (track.directions[i] - track.directions[i - 1])))) for i in range(n)]
    mean = sum(abs(turn) for turn in turns) / n
    kerbs = []
    for i in range(n):
        window = [turns[i - back] for back in range(KERB_TILES)]
        hard = all(abs(turn) > mean for turn in window)
        kerbs.append(hard and abs(sum(np.sign(turn) for turn in window)) == KERB_TILES)
    for i in range(n):
        for back in range(KERB_TILES):
            kerbs[i - back] |= kerbs[i]
    return kerbs


def test_kerbs_stand_where_the_road_turns_hard_for_its_own_standards() -> None:
    angles = np.linspace(0, 2 * np.pi, 300, endpoint=False)
    radius = 80 + 15 * np.sin(3 * angles) + 6 * np.cos(7 * angles)
    track = Track.from_centre_line(radius[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1))
    assert track.kerbs.tolist() == naive_kerbs(track)
    assert 0.05 < track.kerbs.mean() < 0.95


def naive_crossings(points: NDArray[np.float64]) -> int:
    n, found = len(points), 0

    def side(a: NDArray[np.float64], b: NDArray[np.float64], c: NDArray[np.float64]) -> float:
        return float(np.sign((b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])))

    for i in range(n):
        for j in range(i + 1, n):
            if j - i in (1, n - 1):
                continue
            a, b, c, d = points[i], points[(i + 1) % n], points[j], points[(j + 1) % n]
            found += side(a, b, c) * side(a, b, d) < 0 and side(c, d, a) * side(c, d, b) < 0
    return found


def test_crossings_of_a_ring_and_of_an_eight() -> None:
    assert Track.from_centre_line(ring(50)).crossings() == 0
    angles = np.linspace(0.1, 2 * np.pi + 0.1, 60, endpoint=False)
    eight = np.stack([50 * np.sin(angles), 50 * np.sin(2 * angles)], axis=1)
    assert Track.from_centre_line(eight).crossings() == 1


@given(st.lists(st.tuples(st.integers(-9, 9), st.integers(-9, 9)), min_size=4, max_size=14))
@settings(max_examples=60, deadline=None)
def test_crossings_equal_a_look_at_every_pair(corners: list[tuple[int, int]]) -> None:
    points = np.array(corners, dtype=np.float64)
    assert crossings(points) == naive_crossings(points)
