"""One step of Box2D for a car: a hull, four wheels and the motorised joints between them.

The algorithm (sequential impulses with warm starts), its order of operations and its constants are those of Box2D 2.3
by Erin Catto (zlib licence): `b2Island::Solve`, `b2RevoluteJoint`, `b2PolygonShape::ComputeMass`. Everything is
float32, also every constant, and nothing may be contracted or reordered: the bodies move as in the package, bit for
bit. Terms that are exactly zero here (no gravity, no damping, wheels that hang by their centres) are left out.
"""

import numpy as np
from numpy.typing import NDArray

from clutr.envs.car.physics.arrays import BODIES, WHEELS, Cars, Single
from clutr.envs.car.physics.chassis import (
    ANCHORS,
    CENTRE_X,
    CENTRE_Y,
    HULL_LIGHT,
    HULL_TURN,
    LIGHT,
    MOTOR_MASS,
    TURN,
    WHEEL_LIGHT,
    WHEEL_TURN,
)
from clutr.envs.car.physics.joints import (
    ARM_X,
    ARM_Y,
    AT_LOWER,
    AT_UPPER,
    COLUMNS,
    DET2,
    DET3,
    FREE,
    K11,
    K12,
    K13,
    K22,
    K23,
    MOTOR,
    PUSH_X,
    PUSH_Y,
    SPEED,
    SPIN,
    STEP,
    TWIST,
    X,
    Y,
    solve_velocities,
)
from clutr.envs.numba_cache import njit

POSITION_SWEEPS = 60

_f = np.float32
_ZERO, _ONE = _f(0), _f(1)
_LIMIT = _f(0.4)  # of the joints' angles, either way
_PI = _f(3.14159265359)
_LINEAR_SLOP = _f(0.005)
_ANGULAR_SLOP = _f(2) / _f(180) * _PI
_MOST_CORRECTION = _f(8) / _f(180) * _PI
_MOST_TRANSLATION = _f(2)
_MOST_ROTATION = _f(0.5) * _PI
_SLEEP_SPEED = _f(0.01) * _f(0.01)
_SLEEP_SPIN = _ANGULAR_SLOP * _ANGULAR_SLOP
_TIME_TO_SLEEP = _f(0.5)


@njit(error_model="numpy")
def push(cars: Cars, i: int, wheel: int, x: np.float32, y: np.float32) -> None:
    """Let a force act on the middle of a wheel for one step."""
    cars.velocity[i, wheel + 1, 0] += STEP * (_ZERO + WHEEL_LIGHT * x)
    cars.velocity[i, wheel + 1, 1] += STEP * (_ZERO + WHEEL_LIGHT * y)


@njit(error_model="numpy", inline="always")
def solve(cars: Cars, i: int) -> None:
    """Move car i by one step, after the forces (`b2Island::Solve`; the wheels' joints come last to first)."""
    joints = np.empty((WHEELS, COLUMNS), np.float32)
    hull = np.empty(3, np.float32)
    hull[0], hull[1], hull[2] = cars.velocity[i, 0, 0], cars.velocity[i, 0, 1], cars.spin[i, 0]
    for wheel in range(WHEELS - 1, -1, -1):
        _prepare(cars, i, wheel, hull, joints)
    solve_velocities(hull, joints, cars.limit[i])
    _store(cars, i, hull, joints)
    for body in range(BODIES):
        _integrate(cars, i, body)
    solved = _solve_positions(cars.centre[i], cars.angle[i], cars.limit[i])
    for body in range(BODIES):
        set_transform(cars, i, body)
    _sleep(cars, i, solved)


@njit(error_model="numpy")
def set_transform(cars: Cars, i: int, body: int) -> None:
    """Place a body's own coordinates by its centre of mass and angle (`b2Body::SynchronizeTransform`)."""
    sine, cosine = np.sin(cars.angle[i, body]), np.cos(cars.angle[i, body])
    cars.rotation[i, body, 0], cars.rotation[i, body, 1] = sine, cosine
    x, y = cars.centre[i, body, 0], cars.centre[i, body, 1]
    if body == 0:
        x -= cosine * CENTRE_X - sine * CENTRE_Y
        y -= sine * CENTRE_X + cosine * CENTRE_Y
    cars.origin[i, body, 0], cars.origin[i, body, 1] = x, y


@njit(error_model="numpy")
def _prepare(cars: Cars, i: int, wheel: int, hull: Single, joints: Single) -> None:
    """The joint's effective mass and limit, and the impulses of the last step again (`InitVelocityConstraints`)."""
    sine, cosine = cars.rotation[i, 0, 0], cars.rotation[i, 0, 1]
    x, y = ANCHORS[wheel, 0], ANCHORS[wheel, 1]
    arm_x, arm_y = cosine * x - sine * y, sine * x + cosine * y
    k11 = LIGHT + arm_y * arm_y * HULL_TURN
    k12 = -arm_y * arm_x * HULL_TURN
    k22 = LIGHT + arm_x * arm_x * HULL_TURN
    k13, k23 = -arm_y * HULL_TURN, arm_x * HULL_TURN
    det2 = k11 * k22 - k12 * k12
    if det2 != _ZERO:
        det2 = _ONE / det2
    det3 = k11 * (k22 * TURN - k23 * k23) + k12 * (k23 * k13 - k12 * TURN) + k13 * (k12 * k23 - k22 * k13)
    if det3 != _ZERO:
        det3 = _ONE / det3
    joints[wheel, ARM_X], joints[wheel, ARM_Y] = arm_x, arm_y
    joints[wheel, K11], joints[wheel, K12], joints[wheel, K22], joints[wheel, K13], joints[wheel, K23] = (
        k11,
        k12,
        k22,
        k13,
        k23,
    )
    joints[wheel, DET2], joints[wheel, DET3] = det2, det3

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
    hull[0] -= HULL_LIGHT * x
    hull[1] -= HULL_LIGHT * y
    hull[2] -= HULL_TURN * (arm_x * y - arm_y * x + motor + twist)
    joints[wheel, X] = cars.velocity[i, wheel + 1, 0] + WHEEL_LIGHT * x
    joints[wheel, Y] = cars.velocity[i, wheel + 1, 1] + WHEEL_LIGHT * y
    joints[wheel, SPIN] = cars.spin[i, wheel + 1] + WHEEL_TURN * (motor + twist)
    joints[wheel, SPEED], joints[wheel, MOTOR] = cars.motor_speed[i, wheel], motor
    joints[wheel, PUSH_X], joints[wheel, PUSH_Y], joints[wheel, TWIST] = x, y, twist


@njit(error_model="numpy")
def _store(cars: Cars, i: int, hull: Single, joints: Single) -> None:
    """Write velocities and impulses back."""
    cars.velocity[i, 0, 0], cars.velocity[i, 0, 1], cars.spin[i, 0] = hull[0], hull[1], hull[2]
    for wheel in range(WHEELS):
        cars.velocity[i, wheel + 1, 0], cars.velocity[i, wheel + 1, 1] = joints[wheel, X], joints[wheel, Y]
        cars.spin[i, wheel + 1] = joints[wheel, SPIN]
        cars.motor_impulse[i, wheel] = joints[wheel, MOTOR]
        cars.impulse[i, wheel, 0], cars.impulse[i, wheel, 1] = joints[wheel, PUSH_X], joints[wheel, PUSH_Y]
        cars.impulse[i, wheel, 2] = joints[wheel, TWIST]


@njit(error_model="numpy")
def _integrate(cars: Cars, i: int, body: int) -> None:
    """Move a body by its velocities, neither too far nor too far round."""
    velocity, centre = cars.velocity[i, body], cars.centre[i, body]
    x, y = STEP * velocity[0], STEP * velocity[1]
    squared = x * x + y * y
    if squared > _MOST_TRANSLATION * _MOST_TRANSLATION:
        ratio = _MOST_TRANSLATION / np.sqrt(squared)
        velocity[0] *= ratio
        velocity[1] *= ratio
    rotation = STEP * cars.spin[i, body]
    if rotation * rotation > _MOST_ROTATION * _MOST_ROTATION:
        cars.spin[i, body] *= _MOST_ROTATION / abs(rotation)
    centre[0] += STEP * velocity[0]
    centre[1] += STEP * velocity[1]
    cars.angle[i, body] += STEP * cars.spin[i, body]


@njit(error_model="numpy")
def _solve_positions(centres: Single, angles: Single, limits: NDArray[np.int8]) -> bool:
    """Put the wheels back where they belong (`SolvePositionConstraints`); whether they are near enough."""
    for _ in range(POSITION_SWEEPS):
        solved = True
        for wheel in range(WHEELS - 1, -1, -1):
            solved &= _solve_position(centres, angles, wheel, limits[wheel])
        if solved:
            return True
    return False


@njit(error_model="numpy")
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
        turn = -MOTOR_MASS * correction
        angles[0] -= HULL_TURN * turn
        angles[wheel + 1] += WHEEL_TURN * turn
    sine, cosine = np.sin(angles[0]), np.cos(angles[0])
    x, y = ANCHORS[wheel, 0], ANCHORS[wheel, 1]
    arm_x, arm_y = cosine * x - sine * y, sine * x + cosine * y
    hull, other = centres[0], centres[wheel + 1]
    off_x, off_y = other[0] - hull[0] - arm_x, other[1] - hull[1] - arm_y
    k11 = LIGHT + HULL_TURN * arm_y * arm_y
    k12 = -HULL_TURN * arm_x * arm_y
    k22 = LIGHT + HULL_TURN * arm_x * arm_x
    det = k11 * k22 - k12 * k12
    if det != _ZERO:
        det = _ONE / det
    x, y = -(det * (k22 * off_x - k12 * off_y)), -(det * (k11 * off_y - k12 * off_x))
    hull[0] -= HULL_LIGHT * x
    hull[1] -= HULL_LIGHT * y
    angles[0] -= HULL_TURN * (arm_x * y - arm_y * x)
    other[0] += WHEEL_LIGHT * x
    other[1] += WHEEL_LIGHT * y
    return bool(np.sqrt(off_x * off_x + off_y * off_y) <= _LINEAR_SLOP and beyond <= _ANGULAR_SLOP)


@njit(error_model="numpy")
def _sleep(cars: Cars, i: int, solved: bool) -> None:
    """Stop a car that has hardly moved for half a second; the next force wakes it."""
    shortest = np.float32(np.inf)
    for body in range(BODIES):
        x, y, spin = cars.velocity[i, body, 0], cars.velocity[i, body, 1], cars.spin[i, body]
        if spin * spin > _SLEEP_SPIN or x * x + y * y > _SLEEP_SPEED:
            cars.sleep_time[i, body] = _ZERO
        else:
            cars.sleep_time[i, body] += STEP
        shortest = min(shortest, cars.sleep_time[i, body])
    if shortest >= _TIME_TO_SLEEP and solved:
        cars.velocity[i] = _ZERO
        cars.spin[i] = _ZERO
        cars.sleep_time[i] = _ZERO
