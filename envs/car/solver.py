"""One step of Box2D for a car: a hull, four wheels and the motorised joints between them.

The algorithm (sequential impulses with warm starts), its order of operations and its constants are those of Box2D 2.3
by Erin Catto (zlib licence): `b2Island::Solve`, `b2RevoluteJoint`, `b2PolygonShape::ComputeMass`. Everything is
float32, also every constant, and nothing may be contracted or reordered: the bodies move as in the package, bit for
bit. Terms that are exactly zero here (no gravity, no damping, wheels that hang by their centres) are left out.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from envs.car.contacts import tile_hull
from envs.car.state import BODIES, WHEELS, Cars, Single

SIZE = 0.02
"""Units of the world a unit of the car's drawing."""
WHEEL_PLACES = ((-55, 80), (55, 80), (-55, -82), (55, -82))
HULL_SHAPES = (
    ((-60, 130), (60, 130), (60, 110), (-60, 110)),
    ((-15, 120), (15, 120), (20, 20), (-20, 20)),
    ((25, 20), (50, -10), (50, -40), (20, -90), (-20, -90), (-50, -40), (-50, -10), (-25, 20)),
    ((-50, -120), (50, -120), (50, -90), (-50, -90)),
)
WHEEL_SHAPE = ((-14, 27), (14, 27), (14, -27), (-14, -27))
HULL_DENSITY, WHEEL_DENSITY = 1.0, 0.1

FREE, AT_LOWER, AT_UPPER = 0, 1, 2  # b2LimitState
VELOCITY_SWEEPS = 180
POSITION_SWEEPS = 60

_f = np.float32
_ZERO, _ONE = _f(0), _f(1)
_STEP = _f(1 / 50)
_LIMIT = _f(0.4)  # of the joints' angles, either way
_MOST_MOTOR_IMPULSE = _STEP * _f(180 * 900 * SIZE * SIZE)
_PI = _f(3.14159265359)
_LINEAR_SLOP = _f(0.005)
_ANGULAR_SLOP = _f(2) / _f(180) * _PI
_MOST_CORRECTION = _f(8) / _f(180) * _PI
_MOST_TRANSLATION = _f(2)
_MOST_ROTATION = _f(0.5) * _PI
_SLEEP_SPEED = _f(0.01) * _f(0.01)
_SLEEP_SPIN = _ANGULAR_SLOP * _ANGULAR_SLOP
_TIME_TO_SLEEP = _f(0.5)


def _scaled(shape: tuple[tuple[int, int], ...]) -> Single:
    return np.array([(x * SIZE, y * SIZE) for x, y in shape], np.float32)


def _shape_mass(shape: Single, density: np.float32) -> tuple[np.float32, Single, np.float32]:
    """Mass, centre of mass and inertia about the origin of a polygon (`b2PolygonShape::ComputeMass`)."""
    hull, count = tile_hull.py_func(shape)
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
        part, place, spin = _shape_mass(_scaled(shape), _f(density))
        mass += part
        centre += part * place
        inertia += spin
    centre *= _ONE / mass
    return mass, centre, inertia - mass * _dot(centre, centre)


HULL_MASS, _HULL_CENTRE, HULL_INERTIA = body_mass(HULL_SHAPES, HULL_DENSITY)
WHEEL_MASS, _, WHEEL_INERTIA = body_mass((WHEEL_SHAPE,), WHEEL_DENSITY)
CENTRE_X, CENTRE_Y = _HULL_CENTRE
_HULL_LIGHT, _HULL_TURN = _ONE / HULL_MASS, _ONE / HULL_INERTIA  # inverse masses
WHEEL_LIGHT, _WHEEL_TURN = _ONE / WHEEL_MASS, _ONE / WHEEL_INERTIA
_LIGHT = _HULL_LIGHT + WHEEL_LIGHT
_TURN = _HULL_TURN + _WHEEL_TURN
_MOTOR_MASS = _ONE / _TURN
_ANCHORS = _scaled(WHEEL_PLACES) - _HULL_CENTRE

# columns of a joint's row: arm from the hull's centre, effective mass and its inverse determinants, the wheel, impulses
_ARM_X, _ARM_Y, _K11, _K12, _K22, _K13, _K23, _DET2, _DET3 = range(9)
_X, _Y, _SPIN, _SPEED, _MOTOR, _PUSH_X, _PUSH_Y, _TWIST = range(9, 17)
_COLUMNS = 17
_RAW, _KEPT, _ADD_X, _ADD_Y = range(4)  # what a sweep did to a joint's impulses
_LONGEST_CYCLE = 2


@njit(cache=True)  # type: ignore[untyped-decorator]  # numba has no types
def push(cars: Cars, i: int, wheel: int, x: np.float32, y: np.float32) -> None:
    """Let a force act on the middle of a wheel for one step."""
    cars.velocity[i, wheel + 1, 0] += _STEP * (_ZERO + WHEEL_LIGHT * x)
    cars.velocity[i, wheel + 1, 1] += _STEP * (_ZERO + WHEEL_LIGHT * y)


@njit(cache=True)  # type: ignore[untyped-decorator]
def solve(cars: Cars, i: int) -> None:
    """Move car i by one step, after the forces (`b2Island::Solve`; the wheels' joints come last to first)."""
    joints = np.empty((WHEELS, _COLUMNS), np.float32)
    hull = np.empty(3, np.float32)
    hull[0], hull[1], hull[2] = cars.velocity[i, 0, 0], cars.velocity[i, 0, 1], cars.spin[i, 0]
    for wheel in range(WHEELS - 1, -1, -1):
        _prepare(cars, i, wheel, hull, joints)
    _solve_velocities(hull, joints, cars.limit[i])
    _store(cars, i, hull, joints)
    for body in range(BODIES):
        _integrate(cars, i, body)
    solved = _solve_positions(cars.centre[i], cars.angle[i], cars.limit[i])
    for body in range(BODIES):
        set_transform(cars, i, body)
    _sleep(cars, i, solved)


@njit(cache=True)  # type: ignore[untyped-decorator]
def set_transform(cars: Cars, i: int, body: int) -> None:
    """Place a body's own coordinates by its centre of mass and angle (`b2Body::SynchronizeTransform`)."""
    sine, cosine = np.sin(cars.angle[i, body]), np.cos(cars.angle[i, body])
    cars.rotation[i, body, 0], cars.rotation[i, body, 1] = sine, cosine
    x, y = cars.centre[i, body, 0], cars.centre[i, body, 1]
    if body == 0:
        x -= cosine * CENTRE_X - sine * CENTRE_Y
        y -= sine * CENTRE_X + cosine * CENTRE_Y
    cars.origin[i, body, 0], cars.origin[i, body, 1] = x, y


@njit(cache=True)  # type: ignore[untyped-decorator]
def _prepare(cars: Cars, i: int, wheel: int, hull: Single, joints: Single) -> None:
    """The joint's effective mass and limit, and the impulses of the last step again (`InitVelocityConstraints`)."""
    sine, cosine = cars.rotation[i, 0, 0], cars.rotation[i, 0, 1]
    x, y = _ANCHORS[wheel, 0], _ANCHORS[wheel, 1]
    arm_x, arm_y = cosine * x - sine * y, sine * x + cosine * y
    k11 = _LIGHT + arm_y * arm_y * _HULL_TURN
    k12 = -arm_y * arm_x * _HULL_TURN
    k22 = _LIGHT + arm_x * arm_x * _HULL_TURN
    k13, k23 = -arm_y * _HULL_TURN, arm_x * _HULL_TURN
    det2 = k11 * k22 - k12 * k12
    if det2 != _ZERO:
        det2 = _ONE / det2
    det3 = k11 * (k22 * _TURN - k23 * k23) + k12 * (k23 * k13 - k12 * _TURN) + k13 * (k12 * k23 - k22 * k13)
    if det3 != _ZERO:
        det3 = _ONE / det3
    joints[wheel, _ARM_X], joints[wheel, _ARM_Y] = arm_x, arm_y
    joints[wheel, _K11], joints[wheel, _K12], joints[wheel, _K22], joints[wheel, _K13], joints[wheel, _K23] = (
        k11,
        k12,
        k22,
        k13,
        k23,
    )
    joints[wheel, _DET2], joints[wheel, _DET3] = det2, det3

    angle = cars.angle[i, wheel + 1] - cars.angle[i, 0]
    limit = FREE
    if angle <= -_LIMIT:
        limit = AT_LOWER
    elif angle >= _LIMIT:
        limit = AT_UPPER
    x, y, twist = cars.impulse[i, wheel, 0], cars.impulse[i, wheel, 1], cars.impulse[i, wheel, 2]
    if limit == FREE or limit != cars.limit[i, wheel]:
        twist = _ZERO
    cars.limit[i, wheel] = limit

    motor = cars.motor_impulse[i, wheel]
    hull[0] -= _HULL_LIGHT * x
    hull[1] -= _HULL_LIGHT * y
    hull[2] -= _HULL_TURN * (arm_x * y - arm_y * x + motor + twist)
    joints[wheel, _X] = cars.velocity[i, wheel + 1, 0] + WHEEL_LIGHT * x
    joints[wheel, _Y] = cars.velocity[i, wheel + 1, 1] + WHEEL_LIGHT * y
    joints[wheel, _SPIN] = cars.spin[i, wheel + 1] + _WHEEL_TURN * (motor + twist)
    joints[wheel, _SPEED], joints[wheel, _MOTOR] = cars.motor_speed[i, wheel], motor
    joints[wheel, _PUSH_X], joints[wheel, _PUSH_Y], joints[wheel, _TWIST] = x, y, twist


@njit(cache=True)  # type: ignore[untyped-decorator]
def _store(cars: Cars, i: int, hull: Single, joints: Single) -> None:
    """Write velocities and impulses back."""
    cars.velocity[i, 0, 0], cars.velocity[i, 0, 1], cars.spin[i, 0] = hull[0], hull[1], hull[2]
    for wheel in range(WHEELS):
        cars.velocity[i, wheel + 1, 0], cars.velocity[i, wheel + 1, 1] = joints[wheel, _X], joints[wheel, _Y]
        cars.spin[i, wheel + 1] = joints[wheel, _SPIN]
        cars.motor_impulse[i, wheel] = joints[wheel, _MOTOR]
        cars.impulse[i, wheel, 0], cars.impulse[i, wheel, 1] = joints[wheel, _PUSH_X], joints[wheel, _PUSH_Y]
        cars.impulse[i, wheel, 2] = joints[wheel, _TWIST]


@njit(cache=True)  # type: ignore[untyped-decorator]
def _solve_velocities(hull: Single, joints: Single, limits: NDArray[np.int8]) -> None:
    """All sweeps over the joints (`SolveVelocityConstraints`), those that repeat themselves in short.

    After a few sweeps the velocities mostly stand still, or alternate between two states, down to the last bit. From
    then on the sweeps do the same again, but for the sums of the impulses, on which a sweep depends only by how much
    the motors' change when rounded: as long as that stays the same, only the sums need to go on.
    """
    anchor = np.empty(3 + 4 * WHEELS, np.float32)
    records = np.empty((_LONGEST_CYCLE, WHEELS, 4), np.float32)
    _remember(hull, joints, anchor)
    age, left = 0, VELOCITY_SWEEPS
    while left > 0:
        _sweep(hull, joints, limits, records, age)
        age, left = age + 1, left - 1
        if _is_same(hull, joints, anchor):
            left -= age * _repeat(joints, records, age, left // age)
            age = 0
        elif age == _LONGEST_CYCLE:
            _remember(hull, joints, anchor)
            age = 0


@njit(cache=True)  # type: ignore[untyped-decorator]
def _sweep(hull: Single, joints: Single, limits: NDArray[np.int8], records: Single, age: int) -> None:
    """Turn each wheel towards its motor's speed, then hold it at its place on the hull."""
    x, y, spin = hull[0], hull[1], hull[2]
    for wheel in range(WHEELS - 1, -1, -1):
        arm_x, arm_y = joints[wheel, _ARM_X], joints[wheel, _ARM_Y]
        motor, wheel_spin = joints[wheel, _MOTOR], joints[wheel, _SPIN]
        raw = -_MOTOR_MASS * (wheel_spin - spin - joints[wheel, _SPEED])
        joints[wheel, _MOTOR] = max(-_MOST_MOTOR_IMPULSE, min(motor + raw, _MOST_MOTOR_IMPULSE))
        kept = joints[wheel, _MOTOR] - motor
        spin -= _HULL_TURN * kept
        wheel_spin += _WHEEL_TURN * kept
        drift_x, drift_y = joints[wheel, _X] - x + spin * arm_y, joints[wheel, _Y] - y - spin * arm_x
        if limits[wheel] == FREE:
            add_x, add_y = _solve_pair(joints, wheel, -drift_x, -drift_y)
            spin -= _HULL_TURN * (arm_x * add_y - arm_y * add_x)
        else:
            add_x, add_y, turn = _solve_limit(joints, wheel, limits[wheel], drift_x, drift_y, wheel_spin - spin)
            spin -= _HULL_TURN * (arm_x * add_y - arm_y * add_x + turn)
            wheel_spin += _WHEEL_TURN * turn
        x -= _HULL_LIGHT * add_x
        y -= _HULL_LIGHT * add_y
        joints[wheel, _X] += WHEEL_LIGHT * add_x
        joints[wheel, _Y] += WHEEL_LIGHT * add_y
        joints[wheel, _SPIN] = wheel_spin
        joints[wheel, _PUSH_X] += add_x
        joints[wheel, _PUSH_Y] += add_y
        records[age, wheel, _RAW], records[age, wheel, _KEPT] = raw, kept
        records[age, wheel, _ADD_X], records[age, wheel, _ADD_Y] = add_x, add_y
    hull[0], hull[1], hull[2] = x, y, spin


@njit(cache=True)  # type: ignore[untyped-decorator]
def _solve_pair(joints: Single, wheel: int, x: np.float32, y: np.float32) -> tuple[np.float32, np.float32]:
    """The impulse that makes up for a drift (`b2Mat33::Solve22`)."""
    det = joints[wheel, _DET2]
    return det * (joints[wheel, _K22] * x - joints[wheel, _K12] * y), det * (
        joints[wheel, _K11] * y - joints[wheel, _K12] * x
    )


@njit(cache=True)  # type: ignore[untyped-decorator]
def _solve_limit(
    joints: Single, wheel: int, limit: int, b1: np.float32, b2: np.float32, b3: np.float32
) -> tuple[np.float32, np.float32, np.float32]:
    """The impulse, and twist, that make up for a drift and keep the wheel from turning further."""
    k11, k12, k22, k13, k23 = (
        joints[wheel, _K11],
        joints[wheel, _K12],
        joints[wheel, _K22],
        joints[wheel, _K13],
        joints[wheel, _K23],
    )
    det = joints[wheel, _DET3]
    # Cramer's rule on the symmetric matrix (b2Mat33::Solve33)
    x = -(det * (b1 * (k22 * _TURN - k23 * k23) + b2 * (k23 * k13 - k12 * _TURN) + b3 * (k12 * k23 - k22 * k13)))
    y = -(det * (k11 * (b2 * _TURN - b3 * k23) + k12 * (b3 * k13 - b1 * _TURN) + k13 * (b1 * k23 - b2 * k13)))
    turn = -(det * (k11 * (k22 * b3 - k23 * b2) + k12 * (k23 * b1 - k12 * b3) + k13 * (k12 * b2 - k22 * b1)))
    twist = joints[wheel, _TWIST]
    total = twist + turn
    if (limit == AT_LOWER and total < _ZERO) or (limit == AT_UPPER and total > _ZERO):
        x, y = _solve_pair(joints, wheel, -b1 + twist * k13, -b2 + twist * k23)
        turn = -twist
        total = _ZERO
    joints[wheel, _TWIST] = total
    return x, y, turn


@njit(cache=True)  # type: ignore[untyped-decorator]
def _remember(hull: Single, joints: Single, anchor: Single) -> None:
    """Note all that a sweep depends on, but for the motors' impulses."""
    anchor[0], anchor[1], anchor[2] = hull[0], hull[1], hull[2]
    for wheel in range(WHEELS):
        at = 3 + 4 * wheel
        anchor[at], anchor[at + 1] = joints[wheel, _X], joints[wheel, _Y]
        anchor[at + 2], anchor[at + 3] = joints[wheel, _SPIN], joints[wheel, _TWIST]


@njit(cache=True)  # type: ignore[untyped-decorator]
def _is_same(hull: Single, joints: Single, anchor: Single) -> bool:
    if anchor[2] != hull[2] or anchor[0] != hull[0] or anchor[1] != hull[1]:
        return False
    for wheel in range(WHEELS):
        at = 3 + 4 * wheel
        if anchor[at] != joints[wheel, _X] or anchor[at + 1] != joints[wheel, _Y]:
            return False
        if anchor[at + 2] != joints[wheel, _SPIN] or anchor[at + 3] != joints[wheel, _TWIST]:
            return False
    return True


@njit(cache=True)  # type: ignore[untyped-decorator]
def _repeat(joints: Single, records: Single, period: int, times: int) -> int:
    """Let the sums of the impulses go on over whole cycles; how many of them were the same indeed."""
    motors = np.empty(WHEELS, np.float32)
    for time in range(times):
        for wheel in range(WHEELS):
            motor = joints[wheel, _MOTOR]
            for step in range(period):
                after = max(-_MOST_MOTOR_IMPULSE, min(motor + records[step, wheel, _RAW], _MOST_MOTOR_IMPULSE))
                if after - motor != records[step, wheel, _KEPT]:
                    return time
                motor = after
            motors[wheel] = motor
        for wheel in range(WHEELS):
            joints[wheel, _MOTOR] = motors[wheel]
            for step in range(period):
                joints[wheel, _PUSH_X] += records[step, wheel, _ADD_X]
                joints[wheel, _PUSH_Y] += records[step, wheel, _ADD_Y]
    return times


@njit(cache=True)  # type: ignore[untyped-decorator]
def _integrate(cars: Cars, i: int, body: int) -> None:
    """Move a body by its velocities, neither too far nor too far round."""
    velocity, centre = cars.velocity[i, body], cars.centre[i, body]
    x, y = _STEP * velocity[0], _STEP * velocity[1]
    squared = x * x + y * y
    if squared > _MOST_TRANSLATION * _MOST_TRANSLATION:
        ratio = _MOST_TRANSLATION / np.sqrt(squared)
        velocity[0] *= ratio
        velocity[1] *= ratio
    rotation = _STEP * cars.spin[i, body]
    if rotation * rotation > _MOST_ROTATION * _MOST_ROTATION:
        cars.spin[i, body] *= _MOST_ROTATION / abs(rotation)
    centre[0] += _STEP * velocity[0]
    centre[1] += _STEP * velocity[1]
    cars.angle[i, body] += _STEP * cars.spin[i, body]


@njit(cache=True)  # type: ignore[untyped-decorator]
def _solve_positions(centres: Single, angles: Single, limits: NDArray[np.int8]) -> bool:
    """Put the wheels back where they belong (`SolvePositionConstraints`); whether they are near enough."""
    for _ in range(POSITION_SWEEPS):
        solved = True
        for wheel in range(WHEELS - 1, -1, -1):
            solved &= _solve_position(centres, angles, wheel, limits[wheel])
        if solved:
            return True
    return False


@njit(cache=True)  # type: ignore[untyped-decorator]
def _solve_position(centres: Single, angles: Single, wheel: int, limit: int) -> bool:
    beyond = _ZERO
    if limit != FREE:
        angle = angles[wheel + 1] - angles[0]
        if limit == AT_LOWER:
            beyond = angle + _LIMIT
            correction = max(-_MOST_CORRECTION, min(beyond + _ANGULAR_SLOP, _ZERO))
            beyond = -beyond
        else:
            beyond = angle - _LIMIT
            correction = max(_ZERO, min(beyond - _ANGULAR_SLOP, _MOST_CORRECTION))
        turn = -_MOTOR_MASS * correction
        angles[0] -= _HULL_TURN * turn
        angles[wheel + 1] += _WHEEL_TURN * turn
    sine, cosine = np.sin(angles[0]), np.cos(angles[0])
    x, y = _ANCHORS[wheel, 0], _ANCHORS[wheel, 1]
    arm_x, arm_y = cosine * x - sine * y, sine * x + cosine * y
    hull, other = centres[0], centres[wheel + 1]
    off_x, off_y = other[0] - hull[0] - arm_x, other[1] - hull[1] - arm_y
    k11 = _LIGHT + _HULL_TURN * arm_y * arm_y
    k12 = -_HULL_TURN * arm_x * arm_y
    k22 = _LIGHT + _HULL_TURN * arm_x * arm_x
    det = k11 * k22 - k12 * k12
    if det != _ZERO:
        det = _ONE / det
    x, y = -(det * (k22 * off_x - k12 * off_y)), -(det * (k11 * off_y - k12 * off_x))
    hull[0] -= _HULL_LIGHT * x
    hull[1] -= _HULL_LIGHT * y
    angles[0] -= _HULL_TURN * (arm_x * y - arm_y * x)
    other[0] += WHEEL_LIGHT * x
    other[1] += WHEEL_LIGHT * y
    near: bool = np.sqrt(off_x * off_x + off_y * off_y) <= _LINEAR_SLOP and beyond <= _ANGULAR_SLOP
    return near


@njit(cache=True)  # type: ignore[untyped-decorator]
def _sleep(cars: Cars, i: int, solved: bool) -> None:
    """Stop a car that has hardly moved for half a second; the next force wakes it."""
    shortest = np.float32(np.inf)
    for body in range(BODIES):
        x, y, spin = cars.velocity[i, body, 0], cars.velocity[i, body, 1], cars.spin[i, body]
        if spin * spin > _SLEEP_SPIN or x * x + y * y > _SLEEP_SPEED:
            cars.sleep_time[i, body] = _ZERO
        else:
            cars.sleep_time[i, body] += _STEP
        shortest = min(shortest, cars.sleep_time[i, body])
    if shortest >= _TIME_TO_SLEEP and solved:
        cars.velocity[i] = _ZERO
        cars.spin[i] = _ZERO
        cars.sleep_time[i] = _ZERO
