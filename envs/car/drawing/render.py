"""The picture that CarRacing's students see, drawn at its 96x96 pixels.

The package (gymnasium 1.2.2, `CarRacing._render`) paints a surface of 1000x800 pixels and shrinks it. Here the same
shapes are filled on a grid of `FINE` x `FINE` samples a pixel, as numbers of colours, and averaged. Coordinates are in
pixels of the package's surface, with y upwards until `_to_samples`.
"""

import os

import numpy as np
from numpy.typing import NDArray

from clutr.envs.car.drawing.raster import MOST_CORNERS, fill
from clutr.envs.car.physics.arrays import BLOCK, WHEELS, Cars, Double, RoadArrays
from clutr.envs.car.physics.chassis import HULL_SHAPES, SIZE, WHEEL_SHAPE
from clutr.envs.car.road.track import SCALE
from clutr.envs.numba_cache import njit

Bytes = NDArray[np.uint8]

SIDE = 96
FINE = 4
"""Samples along either side of a pixel."""
COARSE = 32
"""Samples along either side of the whole picture where only its mean green is wanted."""
PALETTE = np.array([[102.0, 102.0, 102.0], [102.0, 204.0, 102.0], [102.0, 230.0, 102.0]])
"""Red, green and blue of the road, the background and the squares of grass."""

_WIDTH, _HEIGHT = 1000.0, 800.0
_BAR = 5 / 40
"""The indicators' share of the picture's height, at the bottom."""
_ZOOM, _FIRST_ZOOM = 2.7 * SCALE, 0.1 * SCALE
_GRASS_SQUARES = 20
"""Squares of the lattice along half a side of the playfield; every second one in either direction is lighter."""
_VISIBLE = 1e-4
"""The package leaves out indicators whose value is smaller."""

_BLACK, _FIELD, _GRASS, _ROAD, _WHITE, _RED, _RIM, _HULL, _BLUE, _VIOLET, _GREEN = 0, 1, 2, 3, 6, 7, 8, 9, 10, 11, 12
_FIXED_COLOURS = np.array(
    [
        *[[0, 0, 0]] * 6,  # black; the next five depend on the palette
        *([255, 255, 255], [255, 0, 0], [77, 77, 77], [204, 0, 0], [0, 0, 255], [51, 0, 255], [0, 255, 0]),
    ],
    np.uint8,
)
_HULL_CORNERS = np.array([len(shape) for shape in HULL_SHAPES])
_HULL_POINTS = np.array([[*shape, *[(0, 0)] * (MOST_CORNERS - len(shape))] for shape in HULL_SHAPES]) * SIZE
_WHEEL_POINTS = np.array(WHEEL_SHAPE) * SIZE

_LOSS = 2
"""The package's shrinking (`pygame.transform.smoothscale`) takes so much from every value, black excepted."""
_SCORE_CENTRE = (60, 750)
_FONT_SIZE = 42


def digit_pictures() -> Bytes:
    """`[11, height, width]`: the digits and the minus sign in the package's font, white 255 on black 0.

    Digits of that font share one width; the minus sign is padded to it with zeros on the right, and its own width
    stands in the top right corner of its picture, where the font leaves nothing.
    """
    os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # it would greet the user on the standard output
    import pygame.font  # noqa: PLC0415  # costs half a second

    pygame.font.init()
    font = pygame.font.Font(pygame.font.get_default_font(), _FONT_SIZE)
    glyphs = []
    for character in "0123456789-":
        surface = font.render(character, True, (255, 255, 255), (0, 0, 0))
        glyphs.append(pygame.surfarray.array_red(surface).T)
    height, width = max(g.shape[0] for g in glyphs), max(g.shape[1] for g in glyphs)
    pictures = np.zeros((len(glyphs), height, width), np.uint8)
    for picture, glyph in zip(pictures, glyphs, strict=True):
        picture[: glyph.shape[0], : glyph.shape[1]] = glyph
    pictures[10, 0, -1] = glyphs[10].shape[1]
    return pictures


def new_scratch(n: int) -> Bytes:
    """Room for the samples of n pictures."""
    return np.zeros((n, SIDE * FINE, SIDE * FINE), np.uint8)


@njit()
def draw_observation(
    picture: Bytes,
    scratch: Bytes,
    cars: Cars,
    roads: RoadArrays,
    i: int,
    score: float,
    seconds: float,
    palette: Double,
    playfield: float,
    zoom_in: bool,
    digits: Bytes,
) -> None:
    """Draw what car i sees.

    Args:
        picture: `[96, 96, 3]`, written.
        scratch: one of `new_scratch`, overwritten.
        cars: all cars.
        roads: their roads.
        i: which car.
        score: the number at the bottom left.
        seconds: since the episode's start; matters only with `zoom_in`.
        palette: as `PALETTE`.
        playfield: half the side of the square in which an episode goes on, in units.
        zoom_in: whether the camera approaches during the first second.
        digits: of `digit_pictures`.
    """
    zoom = _ZOOM
    if zoom_in:
        zoom = _FIRST_ZOOM * max(1 - seconds, 0.0) + _ZOOM * min(seconds, 1.0)
    _surroundings(scratch, cars, roads, i, zoom, playfield)
    _car(scratch, cars, i, zoom)
    _indicators(scratch, cars, i)
    _average(picture, scratch, _colours(palette))
    _number(picture, score, digits)


@njit()
def mean_green(cars: Cars, roads: RoadArrays, i: int, palette: Double, playfield: float) -> float:
    """About the mean green value of the picture that car i would see, from few samples; the car is left out."""
    samples = np.zeros((COARSE, COARSE), np.uint8)
    _surroundings(samples, cars, roads, i, _ZOOM, playfield)
    colours = _colours(palette)
    bar = round(COARSE * (1 - _BAR))
    total = 0
    for row in range(bar):
        for column in range(COARSE):
            total += colours[samples[row, column], 1]
    return total / (COARSE * COARSE)


@njit()
def _colours(palette: Double) -> Bytes:
    """All colours by number, `[13, 3]`."""
    colours = _FIXED_COLOURS.copy()
    for channel in range(3):
        colours[_FIELD, channel] = int(palette[1, channel])
        colours[_GRASS, channel] = int(palette[2, channel])
        for shade in range(3):
            colours[_ROAD + shade, channel] = int(palette[0, channel] + 0.01 * shade * 255)
    for colour in range(len(colours)):
        for channel in range(3):
            colours[colour, channel] = max(0, int(colours[colour, channel]) - _LOSS)
    return colours


@njit()
def _camera(cars: Cars, i: int, zoom: float, shape: tuple[int, int]) -> tuple[float, float, float, float, float, float]:
    """Coefficients a, b, c, d, e, f of samples (x, y) = (a X + b Y + c, d X + e Y + f) for units (X, Y)."""
    angle = -np.float64(cars.angle[i, 0])
    cosine, sine = np.cos(angle) * zoom, np.sin(angle) * zoom
    x, y = np.float64(cars.origin[i, 0, 0]), np.float64(cars.origin[i, 0, 1])
    across, down = shape[1] / _WIDTH, shape[0] / _HEIGHT
    left = _WIDTH / 2 - (x * cosine - y * sine)
    bottom = _HEIGHT / 4 - (x * sine + y * cosine)
    return across * cosine, -across * sine, across * left, -down * sine, -down * cosine, down * (_HEIGHT - bottom)


@njit()
def _quad(samples: Bytes, view: tuple[float, ...], corners: NDArray[np.float32], colour: int) -> None:
    """Fill a quadrilateral `[4, 2]`, in units."""
    a, b, c, d, e, f = view
    xs, ys = np.empty(4), np.empty(4)
    for corner in range(4):
        x, y = np.float64(corners[corner, 0]), np.float64(corners[corner, 1])
        xs[corner] = a * x + b * y + c
        ys[corner] = d * x + e * y + f
    fill(samples, xs, ys, 4, colour)


@njit()
def _rectangle(
    samples: Bytes, view: tuple[float, ...], x0: float, y0: float, x1: float, y1: float, colour: int
) -> None:
    corners = np.empty((4, 2), np.float32)
    corners[0, 0], corners[0, 1] = x0, y0
    corners[1, 0], corners[1, 1] = x1, y0
    corners[2, 0], corners[2, 1] = x1, y1
    corners[3, 0], corners[3, 1] = x0, y1
    _quad(samples, view, corners, colour)


@njit()
def _surroundings(samples: Bytes, cars: Cars, roads: RoadArrays, i: int, zoom: float, playfield: float) -> None:
    """Field, grass and road."""
    view = _camera(cars, i, zoom, samples.shape)
    # a box, in units, around what the camera sees: the farthest corner of the surface from the car
    reach = np.hypot(_WIDTH / 2, _HEIGHT * 3 / 4) / zoom
    x, y = np.float64(cars.origin[i, 0, 0]), np.float64(cars.origin[i, 0, 1])
    low_x, low_y, high_x, high_y = x - reach, y - reach, x + reach, y + reach
    if max(abs(low_x), abs(high_x), abs(low_y), abs(high_y)) < playfield:
        samples[:] = _FIELD
    else:
        samples[:] = _BLACK
        _rectangle(samples, view, -playfield, -playfield, playfield, playfield, _FIELD)
    grass = playfield / _GRASS_SQUARES
    for column in range(_even(low_x / grass), int(np.floor(high_x / grass)) + 1, 2):
        for row in range(_even(low_y / grass), int(np.floor(high_y / grass)) + 1, 2):
            if min(column, row) >= -_GRASS_SQUARES and max(column, row) < _GRASS_SQUARES:
                _rectangle(
                    samples, view, column * grass, row * grass, (column + 1) * grass, (row + 1) * grass, _GRASS
                )  # fmt: skip
    tiles = roads.tiles[i]
    for block in range((tiles + BLOCK - 1) // BLOCK):
        box = roads.blocks[i, block]
        if box[0] > high_x or box[2] < low_x or box[1] > high_y or box[3] < low_y:
            continue
        for tile in range(block * BLOCK, min((block + 1) * BLOCK, tiles)):
            # a tile that was touched takes the road's own shade
            shade = 0 if roads.touched[i, tile] else tile % 3
            _quad(samples, view, roads.quads[i, tile], _ROAD + shade)
            if roads.kerb[i, tile]:
                _quad(samples, view, roads.kerb_quads[i, tile], _WHITE if tile % 2 == 0 else _RED)


@njit()
def _even(value: float) -> int:
    """The greatest even number that is not greater."""
    return 2 * int(np.floor(value / 2))


@njit()
def _body(samples: Bytes, view: tuple[float, ...], cars: Cars, i: int, body: int, points: Double, colour: int) -> None:
    """Fill a polygon `[n, 2]` in a body's own coordinates."""
    a, b, c, d, e, f = view
    sine, cosine = np.float64(cars.rotation[i, body, 0]), np.float64(cars.rotation[i, body, 1])
    corners = len(points)
    xs, ys = np.empty(MOST_CORNERS), np.empty(MOST_CORNERS)
    for corner in range(corners):
        x = cosine * points[corner, 0] - sine * points[corner, 1] + cars.origin[i, body, 0]
        y = sine * points[corner, 0] + cosine * points[corner, 1] + cars.origin[i, body, 1]
        xs[corner] = a * x + b * y + c
        ys[corner] = d * x + e * y + f
    fill(samples, xs, ys, corners, colour)


@njit()
def _car(samples: Bytes, cars: Cars, i: int, zoom: float) -> None:
    """Wheels with the white stripe that turns with them, then the hull."""
    view = _camera(cars, i, zoom, samples.shape)
    for wheel in range(WHEELS):
        _body(samples, view, cars, i, wheel + 1, _WHEEL_POINTS, _BLACK)
        start, stop = cars.phase[i, wheel], cars.phase[i, wheel] + 1.2
        hidden_start, hidden_stop = np.sin(start) > 0, np.sin(stop) > 0
        if hidden_start and hidden_stop:
            continue
        near, far = np.cos(start), np.cos(stop)
        if hidden_start:
            near = np.sign(near)
        if hidden_stop:
            far = np.sign(far)
        stripe = _WHEEL_POINTS.copy()
        stripe[:2, 1] *= near
        stripe[2:, 1] *= -far
        _body(samples, view, cars, i, wheel + 1, stripe, _RIM)
    for part in range(len(_HULL_CORNERS)):
        _body(samples, view, cars, i, 0, _HULL_POINTS[part, : _HULL_CORNERS[part]], _HULL)


@njit()
def _block(samples: Bytes, x0: float, x1: float, y0: float, y1: float, colour: int) -> None:
    """Fill a rectangle given in fortieths of the surface, y downwards."""
    rows, columns = samples.shape
    left, right = min(x0, x1) / 40 * columns, max(x0, x1) / 40 * columns
    top, bottom = min(y0, y1) / 40 * rows, max(y0, y1) / 40 * rows
    first, last = max(0, round(top)), min(rows, round(bottom))
    begin, end = max(0, round(left)), min(columns, round(right))
    samples[first:last, begin:end] = colour


@njit()
def _indicators(samples: Bytes, cars: Cars, i: int) -> None:
    """The black bar: speed, the wheels' rolling, the steering and the hull's turning."""
    _block(samples, 0.0, 40.0, 35.0, 40.0, _BLACK)
    speed = np.hypot(np.float64(cars.velocity[i, 0, 0]), np.float64(cars.velocity[i, 0, 1]))
    if speed > _VISIBLE:
        _block(samples, 5.0, 6.0, 39 - 0.02 * speed, 39.0, _WHITE)
    for wheel in range(WHEELS):
        omega = cars.omega[i, wheel]
        if abs(omega) > _VISIBLE:
            _block(samples, 7.0 + wheel, 8.0 + wheel, 39 - 0.01 * omega, 39.0, _BLUE if wheel < 2 else _VIOLET)
    steering = np.float64(cars.angle[i, 1] - cars.angle[i, 0])
    if abs(steering) > _VISIBLE:
        _block(samples, 20.0, 20 - 10 * steering, 36.0, 38.0, _GREEN)
    turning = np.float64(cars.spin[i, 0])
    if abs(turning) > _VISIBLE:
        _block(samples, 30.0, 30 - 0.8 * turning, 36.0, 38.0, _RED)


@njit()
def _average(picture: Bytes, samples: Bytes, colours: Bytes) -> None:
    """Mean colour of the samples of each pixel; most pixels have samples of one colour only."""
    sums = np.empty(3, np.int64)
    for row in range(SIDE):
        for column in range(SIDE):
            first = samples[row * FINE, column * FINE]
            alike = True
            for down in range(FINE):
                for across in range(FINE):
                    alike &= samples[row * FINE + down, column * FINE + across] == first
            if alike:
                picture[row, column, 0] = colours[first, 0]
                picture[row, column, 1] = colours[first, 1]
                picture[row, column, 2] = colours[first, 2]
                continue
            sums[:] = 0
            for down in range(FINE):
                for across in range(FINE):
                    colour = samples[row * FINE + down, column * FINE + across]
                    for channel in range(3):
                        sums[channel] += colours[colour, channel]
            for channel in range(3):
                picture[row, column, channel] = sums[channel] // (FINE * FINE)


@njit()
def _number(picture: Bytes, score: float, digits: Bytes) -> None:
    """The score as the package's "%04i", centred where it stands there."""
    value = int(score)
    negative = value < 0
    value = abs(value)
    glyphs = np.empty(24, np.int64)
    used = 0
    while value > 0 or used < (3 if negative else 4):
        glyphs[used] = value % 10
        value //= 10
        used += 1
    if negative:
        glyphs[used] = 10
        used += 1
    height, width = digits.shape[1], digits.shape[2]
    minus = int(digits[10, 0, width - 1])
    total = used * width - (width - minus if negative else 0)
    left, top = _SCORE_CENTRE[0] - total // 2, _SCORE_CENTRE[1] - height // 2
    first_row, last_row = int(top * SIDE / _HEIGHT), int((top + height) * SIDE / _HEIGHT)
    last_column = int((left + total) * SIDE / _WIDTH)
    sums = np.zeros((last_row - first_row + 1, last_column + 1))
    x = left
    for digit in range(used - 1, -1, -1):
        glyph = glyphs[digit]
        wide = minus if glyph == 10 else width
        for row in range(height):
            target = int((top + row) * SIDE / _HEIGHT) - first_row
            for column in range(wide):
                if x + column < 0 or (glyph == 10 and row == 0):
                    continue
                sums[target, int((x + column) * SIDE / _WIDTH)] += digits[glyph, row, column]
        x += wide
    area = _WIDTH * _HEIGHT / (SIDE * SIDE)
    for row in range(len(sums)):
        for column in range(last_column + 1):
            value = min(255, int(sums[row, column] / area))
            if first_row + row < SIDE and value > 0:
                for channel in range(3):
                    picture[first_row + row, column, channel] = max(picture[first_row + row, column, channel], value)
