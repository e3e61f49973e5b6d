"""The velocities of a car's joints: Box2D's sweeps of sequential impulses, those that repeat themselves in short.

The algorithm and its order of operations are those of `b2RevoluteJoint::SolveVelocityConstraints` in Box2D 2.3 by Erin
Catto (zlib licence), in float32 throughout; terms that are exactly zero here are left out.
"""

import numpy as np
from numpy.typing import NDArray

from clutr.envs.car.physics.arrays import WHEELS, Single
from clutr.envs.car.physics.chassis import HULL_LIGHT, HULL_TURN, MOTOR_MASS, SIZE, TURN, WHEEL_LIGHT, WHEEL_TURN
from clutr.envs.numba_cache import njit

FREE, AT_LOWER, AT_UPPER = 0, 1, 2
"""States of a joint's limit (b2LimitState)."""
VELOCITY_SWEEPS = 180

STEP = np.float32(1 / 50)
_ZERO = np.float32(0)
_MOST_MOTOR_IMPULSE = STEP * np.float32(180 * 900 * SIZE * SIZE)

# columns of a joint's row: arm from the hull's centre, effective mass and its inverse determinants, the wheel, impulses
ARM_X, ARM_Y, K11, K12, K22, K13, K23, DET2, DET3 = range(9)
X, Y, SPIN, SPEED, MOTOR, PUSH_X, PUSH_Y, TWIST = range(9, 17)
COLUMNS = 17
_RAW, _KEPT, _ADD_X, _ADD_Y = range(4)  # what a sweep did to a joint's impulses
_LONGEST_CYCLE = 2


@njit(error_model="numpy")
def solve_velocities(hull: Single, joints: Single, limits: NDArray[np.int8]) -> None:
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


@njit(error_model="numpy")
def _sweep(hull: Single, joints: Single, limits: NDArray[np.int8], records: Single, age: int) -> None:
    """Turn each wheel towards its motor's speed, then hold it at its place on the hull."""
    x, y, spin = hull[0], hull[1], hull[2]
    for wheel in range(WHEELS - 1, -1, -1):
        arm_x, arm_y = joints[wheel, ARM_X], joints[wheel, ARM_Y]
        motor, wheel_spin = joints[wheel, MOTOR], joints[wheel, SPIN]
        raw = -MOTOR_MASS * (wheel_spin - spin - joints[wheel, SPEED])
        joints[wheel, MOTOR] = max(-_MOST_MOTOR_IMPULSE, min(motor + raw, _MOST_MOTOR_IMPULSE))
        kept = joints[wheel, MOTOR] - motor
        spin -= HULL_TURN * kept
        wheel_spin += WHEEL_TURN * kept
        drift_x, drift_y = joints[wheel, X] - x + spin * arm_y, joints[wheel, Y] - y - spin * arm_x
        if limits[wheel] == FREE:
            add_x, add_y = _solve_pair(joints, wheel, -drift_x, -drift_y)
            spin -= HULL_TURN * (arm_x * add_y - arm_y * add_x)
        else:
            add_x, add_y, turn = _solve_limit(joints, wheel, limits[wheel], drift_x, drift_y, wheel_spin - spin)
            spin -= HULL_TURN * (arm_x * add_y - arm_y * add_x + turn)
            wheel_spin += WHEEL_TURN * turn
        x -= HULL_LIGHT * add_x
        y -= HULL_LIGHT * add_y
        joints[wheel, X] += WHEEL_LIGHT * add_x
        joints[wheel, Y] += WHEEL_LIGHT * add_y
        joints[wheel, SPIN] = wheel_spin
        joints[wheel, PUSH_X] += add_x
        joints[wheel, PUSH_Y] += add_y
        records[age, wheel, _RAW], records[age, wheel, _KEPT] = raw, kept
        records[age, wheel, _ADD_X], records[age, wheel, _ADD_Y] = add_x, add_y
    hull[0], hull[1], hull[2] = x, y, spin


@njit(error_model="numpy")
def _solve_pair(joints: Single, wheel: int, x: np.float32, y: np.float32) -> tuple[np.float32, np.float32]:
    """The impulse that makes up for a drift (`b2Mat33::Solve22`)."""
    det = joints[wheel, DET2]
    return det * (joints[wheel, K22] * x - joints[wheel, K12] * y), det * (
        joints[wheel, K11] * y - joints[wheel, K12] * x
    )


@njit(error_model="numpy")
def _solve_limit(
    joints: Single, wheel: int, limit: int, b1: np.float32, b2: np.float32, b3: np.float32
) -> tuple[np.float32, np.float32, np.float32]:
    """The impulse, and twist, that make up for a drift and keep the wheel from turning further."""
    k11, k12, k22, k13, k23 = (
        joints[wheel, K11],
        joints[wheel, K12],
        joints[wheel, K22],
        joints[wheel, K13],
        joints[wheel, K23],
    )
    det = joints[wheel, DET3]
    # Cramer's rule on the symmetric matrix (b2Mat33::Solve33)
    x = -(det * (b1 * (k22 * TURN - k23 * k23) + b2 * (k23 * k13 - k12 * TURN) + b3 * (k12 * k23 - k22 * k13)))
    y = -(det * (k11 * (b2 * TURN - b3 * k23) + k12 * (b3 * k13 - b1 * TURN) + k13 * (b1 * k23 - b2 * k13)))
    turn = -(det * (k11 * (k22 * b3 - k23 * b2) + k12 * (k23 * b1 - k12 * b3) + k13 * (k12 * b2 - k22 * b1)))
    twist = joints[wheel, TWIST]
    total = twist + turn
    if (limit == AT_LOWER and total < _ZERO) or (limit == AT_UPPER and total > _ZERO):
        x, y = _solve_pair(joints, wheel, -b1 + twist * k13, -b2 + twist * k23)
        turn = -twist
        total = _ZERO
    joints[wheel, TWIST] = total
    return x, y, turn


@njit(error_model="numpy")
def _remember(hull: Single, joints: Single, anchor: Single) -> None:
    """Note all that a sweep depends on, but for the motors' impulses."""
    anchor[0], anchor[1], anchor[2] = hull[0], hull[1], hull[2]
    for wheel in range(WHEELS):
        at = 3 + 4 * wheel
        anchor[at], anchor[at + 1] = joints[wheel, X], joints[wheel, Y]
        anchor[at + 2], anchor[at + 3] = joints[wheel, SPIN], joints[wheel, TWIST]


@njit(error_model="numpy")
def _is_same(hull: Single, joints: Single, anchor: Single) -> bool:
    if anchor[2] != hull[2] or anchor[0] != hull[0] or anchor[1] != hull[1]:
        return False
    for wheel in range(WHEELS):
        at = 3 + 4 * wheel
        if anchor[at] != joints[wheel, X] or anchor[at + 1] != joints[wheel, Y]:
            return False
        if anchor[at + 2] != joints[wheel, SPIN] or anchor[at + 3] != joints[wheel, TWIST]:
            return False
    return True


@njit(error_model="numpy")
def _repeat(joints: Single, records: Single, period: int, times: int) -> int:
    """Let the sums of the impulses go on over whole cycles; how many of them were the same indeed."""
    motors = np.empty(WHEELS, np.float32)
    for time in range(times):
        changed = False
        for wheel in range(WHEELS):
            motor = joints[wheel, MOTOR]
            for step in range(period):
                after = max(-_MOST_MOTOR_IMPULSE, min(motor + records[step, wheel, _RAW], _MOST_MOTOR_IMPULSE))
                if after - motor != records[step, wheel, _KEPT]:
                    return time
                motor = after
            motors[wheel] = motor
        for wheel in range(WHEELS):
            x, y = joints[wheel, PUSH_X], joints[wheel, PUSH_Y]
            for step in range(period):
                x += records[step, wheel, _ADD_X]
                y += records[step, wheel, _ADD_Y]
            changed |= motors[wheel] != joints[wheel, MOTOR] or x != joints[wheel, PUSH_X] or y != joints[wheel, PUSH_Y]
            joints[wheel, MOTOR], joints[wheel, PUSH_X], joints[wheel, PUSH_Y] = motors[wheel], x, y
        if not changed:
            return times
    return times
