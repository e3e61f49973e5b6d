"""The car of Gymnasium's CarRacing: its controls, its tyres, and one frame of its physics.

What the package (`gymnasium/envs/box2d/car_dynamics.py`, version 1.2.2) computes in Python is float64 here and in its
order of operations; what Box2D computes is float32 (`clutr.envs.car.physics.solver`,
`clutr.envs.car.physics.contacts`). Tests drive both side by side and find the same bits.

Functions between a kernel and the work on arrays are inlined: numba counts references to every array of a tuple that is
handed from function to function, which would cost more than a wheel's tyre.
"""

import numpy as np

from clutr.envs.car.physics.arrays import BODIES, WHEELS, Cars, RoadArrays
from clutr.envs.car.physics.chassis import CENTRE_X, CENTRE_Y, SIZE, WHEEL_PLACES
from clutr.envs.car.physics.contacts import touch
from clutr.envs.car.physics.solver import push, solve
from clutr.envs.numba_cache import njit

FRAME = 1.0 / 50
_POWER = FRAME * (100000000 * SIZE * SIZE)
_WHEEL_INERTIA = 4000 * SIZE * SIZE
_GRIP = 1000000 * SIZE * SIZE
_GRIP_ON_GRASS = _GRIP * 0.6
_TYRE = 205000 * SIZE * SIZE
"""Force for each unit a second that a tyre slips."""
_WHEEL_RADIUS = 27 * SIZE
_BRAKE = 15.0
_PLACES = np.array([(x * SIZE, y * SIZE) for x, y in WHEEL_PLACES])


def new_cars(n: int) -> Cars:
    """N cars that have not been placed."""
    single, double = np.float32, np.float64
    return Cars(
        centre=np.zeros((n, BODIES, 2), single),
        angle=np.zeros((n, BODIES), single),
        velocity=np.zeros((n, BODIES, 2), single),
        spin=np.zeros((n, BODIES), single),
        origin=np.zeros((n, BODIES, 2), single),
        rotation=np.zeros((n, BODIES, 2), single),
        sleep_time=np.zeros((n, BODIES), single),
        impulse=np.zeros((n, WHEELS, 3), single),
        motor_impulse=np.zeros((n, WHEELS), single),
        limit=np.zeros((n, WHEELS), np.int8),
        motor_speed=np.zeros((n, WHEELS), single),
        gas=np.zeros((n, WHEELS), double),
        brake=np.zeros((n, WHEELS), double),
        steer=np.zeros((n, WHEELS), double),
        omega=np.zeros((n, WHEELS), double),
        phase=np.zeros((n, WHEELS), double),
        on_road=np.zeros((n, WHEELS), np.bool_),
    )


@njit(error_model="numpy")
def place_car(cars: Cars, i: int, direction: float, x: float, y: float) -> None:
    """Put a fresh car i, at rest, at a position in units, as the package's `Car` does."""
    for array in (cars.velocity[i], cars.impulse[i]):
        array[:] = 0
    for array in (cars.spin[i], cars.sleep_time[i]):
        array[:] = 0
    for array in (cars.motor_impulse[i], cars.motor_speed[i]):
        array[:] = 0
    for array in (cars.gas[i], cars.brake[i], cars.steer[i], cars.omega[i], cars.phase[i]):
        array[:] = 0
    cars.limit[i] = 0
    cars.on_road[i] = False
    angle = np.float32(direction)
    sine, cosine = np.sin(angle), np.cos(angle)
    for body in range(BODIES):
        cars.angle[i, body] = angle
        cars.rotation[i, body, 0], cars.rotation[i, body, 1] = sine, cosine
        origin, centre = cars.origin[i, body], cars.centre[i, body]
        if body == 0:
            origin[0], origin[1] = np.float32(x), np.float32(y)
            centre[0] = (cosine * CENTRE_X - sine * CENTRE_Y) + origin[0]
            centre[1] = (sine * CENTRE_X + cosine * CENTRE_Y) + origin[1]
        else:  # the package turns the wheels but not their places; the joints pull them there in the first frames
            origin[0] = np.float32(x + _PLACES[body - 1, 0])
            origin[1] = np.float32(y + _PLACES[body - 1, 1])
            centre[0], centre[1] = origin[0], origin[1]


@njit(error_model="numpy", inline="always")
def drive(cars: Cars, roads: RoadArrays, i: int, steer: float, gas: float, brake: float) -> tuple[int, int]:
    """One frame of car i as `CarRacing.step` with a continuous action.

    Args:
        cars: all cars.
        roads: their roads; tiles that are reached are marked.
        i: which car.
        steer: -1 (left) to 1.
        gas: 0 to 1; more and less is cut off.
        brake: 0 to 1.

    Returns:
        How many tiles were reached for the first time; and which of them the first tile was (see `touch`).
    """
    gas = min(max(gas, 0.0), 1.0)
    for wheel in range(WHEELS):
        cars.brake[i, wheel] = brake
        if wheel < 2:
            cars.steer[i, wheel] = -steer
        else:
            more = gas - cars.gas[i, wheel]
            cars.gas[i, wheel] += min(more, 0.1)
    return _frame(cars, roads, i)


@njit(error_model="numpy", inline="always")
def idle(cars: Cars, roads: RoadArrays, i: int) -> int:
    """The frame without an action that ends the package's `reset`; how many tiles the car starts on."""
    return _frame(cars, roads, i)[0]


@njit(error_model="numpy", inline="always")
def _frame(cars: Cars, roads: RoadArrays, i: int) -> tuple[int, int]:
    for wheel in range(WHEELS):
        _roll(cars, i, wheel)
    # contacts are found before bodies move: what a wheel stands on counts from the next frame
    reached = touch(cars, roads, i)
    solve(cars, i)
    return reached


@njit(error_model="numpy")
def _roll(cars: Cars, i: int, wheel: int) -> None:
    """Steering, engine, brake and tyre of one wheel (the package's `Car.step`)."""
    off = cars.steer[i, wheel] - np.float64(cars.angle[i, wheel + 1] - cars.angle[i, 0])
    cars.motor_speed[i, wheel] = np.float32(np.sign(off) * min(50.0 * abs(off), 3.0))
    grip = _GRIP if cars.on_road[i, wheel] else _GRIP_ON_GRASS

    side_x, side_y = np.float64(cars.rotation[i, wheel + 1, 1]), np.float64(cars.rotation[i, wheel + 1, 0])
    ahead_x, ahead_y = -side_y, side_x
    x, y = np.float64(cars.velocity[i, wheel + 1, 0]), np.float64(cars.velocity[i, wheel + 1, 1])
    ahead = ahead_x * x + ahead_y * y
    aside = side_x * x + side_y * y

    omega = cars.omega[i, wheel]
    omega += _POWER * cars.gas[i, wheel] / _WHEEL_INERTIA / (abs(omega) + 5.0)
    brake = cars.brake[i, wheel]
    if brake >= 0.9:
        omega = 0.0
    elif brake > 0:
        omega += -np.sign(omega) * min(_BRAKE * brake, abs(omega))
    cars.phase[i, wheel] += omega * FRAME

    along = (-ahead + omega * _WHEEL_RADIUS) * _TYRE
    across = -aside * _TYRE
    force = np.sqrt(along * along + across * across)
    if force > grip:
        along = along / force * grip
        across = across / force * grip
    cars.omega[i, wheel] = omega - FRAME * along * _WHEEL_RADIUS / _WHEEL_INERTIA
    push(
        cars, i, wheel, np.float32(across * side_x + along * ahead_x), np.float32(across * side_y + along * ahead_y)
    )  # fmt: skip
