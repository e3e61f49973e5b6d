"""What a batch of cars and roads is to the compiled kernels: tuples of arrays, one row an environment."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Single = NDArray[np.float32]
Double = NDArray[np.float64]

BODIES = 5
"""Body 0 is the hull, bodies 1 to 4 are the wheels: front left, front right, rear left, rear right."""
WHEELS = 4
BLOCK = 16
"""Successive tiles that share a bounding box, so that most tiles of a road are never looked at."""


class Cars(NamedTuple):
    """N cars. The float32 arrays are Box2D's, in its precision; the float64 ones the package's Python numbers."""

    centre: Single  # [N, 5, 2] centres of mass (b2Sweep.c)
    angle: Single  # [N, 5] (b2Sweep.a)
    velocity: Single  # [N, 5, 2]
    spin: Single  # [N, 5] angular velocities
    origin: Single  # [N, 5, 2] of the bodies' own coordinates (b2Transform.p, what Python calls position)
    rotation: Single  # [N, 5, 2] sine and cosine (b2Transform.q)
    sleep_time: Single  # [N, 5]
    impulse: Single  # [N, 4, 3] of the wheels' joints, kept for warm starts
    motor_impulse: Single  # [N, 4]
    limit: NDArray[np.int8]  # [N, 4] b2LimitState of the joints
    motor_speed: Single  # [N, 4] of the joints
    gas: Double  # [N, 4]
    brake: Double  # [N, 4]
    steer: Double  # [N, 4]
    omega: Double  # [N, 4] how fast the wheels roll, in radians a second
    phase: Double  # [N, 4] how far they have rolled
    on_road: NDArray[np.bool_]  # [N, 4] whether a wheel touched a tile when Box2D last looked


class RoadArrays(NamedTuple):
    """N roads of up to M tiles, padded behind; the B = ceil(M / BLOCK) blocks bound successive tiles and kerbs."""

    tiles: NDArray[np.int64]  # [N] how many tiles each road has
    blocks: Single  # [N, B, 4] bounding boxes: least x, least y, most x, most y
    quads: Single  # [N, M, 4, 2] corners, for drawing
    kerb: NDArray[np.bool_]  # [N, M]
    kerb_quads: Single  # [N, M, 4, 2]
    hulls: Single  # [N, M, 4, 2] corners as Box2D keeps them (b2PolygonShape::Set)
    corners: NDArray[np.int8]  # [N, M] how many of them, 3 or 4
    visited: NDArray[np.bool_]  # [N, M] reached by a wheel
    touched: NDArray[np.bool_]  # [N, M] reached by any part of the car: the package draws them in the plain colour
