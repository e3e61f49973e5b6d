"""What the car is made of: its shapes, and the masses that Box2D gives them, in its single precision.

`b2PolygonShape::ComputeMass` and `b2Body::ResetMassData` of Box2D 2.3 by Erin Catto (zlib licence), in their order of
operations; the shapes are those of the package's `car_dynamics.py`.
"""

import numpy as np

from clutr.envs.car.physics.arrays import Single
from clutr.envs.car.physics.gjk import tile_hull

SIZE = 0.02
"""Units of the simulation a unit of the car's drawing."""
WHEEL_PLACES = ((-55, 80), (55, 80), (-55, -82), (55, -82))
HULL_SHAPES = (
    ((-60, 130), (60, 130), (60, 110), (-60, 110)),
    ((-15, 120), (15, 120), (20, 20), (-20, 20)),
    ((25, 20), (50, -10), (50, -40), (20, -90), (-20, -90), (-50, -40), (-50, -10), (-25, 20)),
    ((-50, -120), (50, -120), (50, -90), (-50, -90)),
)
WHEEL_SHAPE = ((-14, 27), (14, 27), (14, -27), (-14, -27))
HULL_DENSITY, WHEEL_DENSITY = 1.0, 0.1


_f = np.float32
_ZERO, _ONE = _f(0), _f(1)


def _scaled(shape: tuple[tuple[int, int], ...]) -> Single:
    return np.array([(x * SIZE, y * SIZE) for x, y in shape], np.float32)


def _shape_mass(shape: Single, density: np.float32) -> tuple[np.float32, Single, np.float32]:
    """Mass, centre of mass and inertia about the origin of a polygon (`b2PolygonShape::ComputeMass`)."""
    hull, count = tile_hull.py_func(shape)  # type: ignore[attr-defined]
    third = _ONE / _f(3)
    middle = np.zeros(2, np.float32)
    for corner in range(count):
        middle += hull[corner]
    middle *= _ONE / _f(count)
    centre, area, inertia = np.zeros(2, np.float32), _ZERO, _ZERO
    for corner in range(count):
        x1, y1 = one = hull[corner] - middle
        x2, y2 = other = hull[(corner + 1) % count] - middle
        cross = x1 * y2 - y1 * x2
        triangle = _f(0.5) * cross
        area += triangle
        centre += triangle * third * (one + other)
        along_x, along_y = x1 * x1 + x2 * x1 + x2 * x2, y1 * y1 + y2 * y1 + y2 * y2
        inertia += _f(0.25) * third * cross * (along_x + along_y)
    mass = density * area
    centre *= _ONE / area
    shifted = centre + middle
    return mass, shifted, density * inertia + mass * (_dot(shifted, shifted) - _dot(centre, centre))


def _dot(one: Single, other: Single) -> np.float32:
    product: np.float32 = one[0] * other[0] + one[1] * other[1]
    return product


def body_mass(shapes: tuple[tuple[tuple[int, int], ...], ...], density: float) -> tuple[np.float32, Single, np.float32]:
    """Mass, centre of mass `[2]` and inertia about it of a body (`b2Body::ResetMassData`, the newest shape first)."""
    mass, centre, inertia = _ZERO, np.zeros(2, np.float32), _ZERO
    for shape in reversed(shapes):
        part, middle, spin = _shape_mass(_scaled(shape), _f(density))
        mass += part
        centre += part * middle
        inertia += spin
    centre *= _ONE / mass
    return mass, centre, inertia - mass * _dot(centre, centre)


HULL_MASS, _HULL_CENTRE, HULL_INERTIA = body_mass(HULL_SHAPES, HULL_DENSITY)
WHEEL_MASS, _, WHEEL_INERTIA = body_mass((WHEEL_SHAPE,), WHEEL_DENSITY)
CENTRE_X, CENTRE_Y = _HULL_CENTRE
HULL_LIGHT, HULL_TURN = _ONE / HULL_MASS, _ONE / HULL_INERTIA  # inverse masses
WHEEL_LIGHT, WHEEL_TURN = _ONE / WHEEL_MASS, _ONE / WHEEL_INERTIA
LIGHT = HULL_LIGHT + WHEEL_LIGHT
TURN = HULL_TURN + WHEEL_TURN
MOTOR_MASS = _ONE / TURN
ANCHORS = _scaled(WHEEL_PLACES) - _HULL_CENTRE

# The shapes that contacts are found for: the wheels' in their order, then the hull's.
_PARTS = (WHEEL_SHAPE,) * len(WHEEL_PLACES) + HULL_SHAPES
PARTS = len(_PARTS)
PART_BODIES = np.array([1, 2, 3, 4] + [0] * len(HULL_SHAPES))
"""The body of each part."""
PART_COUNTS = np.array([len(shape) for shape in _PARTS])
PART_CORNERS = np.zeros((PARTS, PART_COUNTS.max(), 2), np.float32)
"""Their corners as Box2D orders them, in the coordinates of the bodies, padded behind."""
for _part, _shape in enumerate(_PARTS):
    PART_CORNERS[_part, : len(_shape)] = tile_hull.py_func(_scaled(_shape))[0]  # type: ignore[attr-defined]
PART_CENTRES = np.array([_scaled(shape).mean(axis=0) for shape in _PARTS], np.float32)
PART_RADII = np.array([np.hypot(*(_scaled(s) - _scaled(s).mean(axis=0)).T).max() for s in _PARTS], np.float32)
"""How far their corners are from those middles, at most."""
