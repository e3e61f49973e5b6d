"""The Formula 1 circuits of the zero-shot test: where they come from, and how they become levels.

The lines are those of the public repository bacinger/f1-circuits (MIT licence). Each is projected to metres, mirrored
(the drawings of the original test were mirror images), scaled to the length that it has in arXiv 2110.02439, and driven
in the direction given there. Neither those drawings nor any file of the repository is part of this project.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pooch
import torch

from clutr.envs.car.road.centre_line import fit, parse_geojson, signed_area
from clutr.envs.car.road.level import CentreLineLevels
from clutr.envs.car.road.track import Floats
from clutr.envs.domain import LevelError
from clutr.envs.home import at_home
from clutr.envs.level_files import read_level_text

TILES = 4_999
"""Tiles of every circuit, whatever its length (arXiv 2110.02439)."""
VARIABLE = "CLUTR_TRACKS"
"""Environment variable that names a directory of GeoJSON files."""
SOURCE = "https://raw.githubusercontent.com/bacinger/f1-circuits/master/circuits/"


@dataclass(frozen=True)
class Circuit:
    """One circuit of the test."""

    name: str
    file: str
    """Name of its GeoJSON file, without the ending."""
    length: float
    """In units."""
    step_limit: int
    """In frames."""
    clockwise: bool
    """Driving direction of the mirrored circuit, with y upwards."""
    sha256: str
    """Of the file as it was when this was written; a download must agree with it."""


CIRCUITS = (
    Circuit(
        "Australia", "au-1953", 1687, 1500, True, "a686ec41ebbc1ca6f9c8e24c2c4bd0a2e1743d0cff730aaa26479059abd99ee5"
    ),
    Circuit("Austria", "at-1969", 1928, 1500, True, "6d84ffac3a212aed8bedd6513535b1cffb1ff2586e055f4921b7f8cd4c334ec3"),
    Circuit("Bahrain", "bh-2002", 2790, 2500, True, "6bac0f8f1f870faedb0cda06f04f6de3e98445d5b27f32c351bdddae105c3864"),
    Circuit("Belgium", "be-1925", 2167, 1500, True, "b867de9cc8364cc9b545a044377a56a697b8db77823c849c1a1c03760a943381"),
    Circuit("Brazil", "br-1940", 2838, 2000, False, "e650e59b876af7c455ec3222e0801b5aab008ed858c71bf6bc84e7af6d6f2bba"),
    Circuit("China", "cn-2004", 3035, 2500, True, "5cbf74478ccf3422dcc8085adde5582d9a393b572b5a038ecb5c9d80d0f8baa7"),
    Circuit("France", "fr-1969", 1922, 2000, True, "79f29c2b61eb6665972cc4c38c4cf176b9a6876b3fb77e8e57f5407adbf70264"),
    Circuit("Germany", "de-1927", 2302, 2000, True, "3d205c6a69ea4ddd8cdcfdac442a73057c742a13279eed96e339493347646db7"),
    Circuit("Hungary", "hu-1986", 1932, 2000, True, "f822ff317874776d37d15970723f6007b463ab04c25ef5ce8ecb651c5478ee0d"),
    Circuit("Italy", "it-1922", 2036, 1500, True, "8b0758ef5a52bb9360c7673d45e0fbea6f29f7349486c5acbb2fe9aa340cb495"),
    Circuit(
        "Malaysia", "my-1999", 3257, 2500, True, "79b46ccbc5f668f042f8b82f9cf4450a85a3c711c5e52e3b0a031ea5a64a4fef"
    ),
    Circuit("Mexico", "mx-1962", 2004, 3000, True, "c552fb24debdb6f8381b70da1eec02c6595d870a4abf9f87b582dbd3bac2eb06"),
    Circuit("Monaco", "mc-1929", 1746, 1500, True, "daf184fc7d0948cadd10ce9428ba87b5462d9df6e33daec7b6f9aad235dc879e"),
    Circuit(
        "Netherlands", "nl-1948", 2578, 2000, True, "4f639dad939d1fd87514695a91f3d0926feb0a72ec90af557a3b1209023c0215"
    ),
    Circuit(
        "Portugal", "pt-2008", 2735, 2500, True, "01e1a31d5b5a97842ef633c1cc808719138b554841d9d6f0b512b363ec7b1c5e"
    ),
    Circuit("Russia", "ru-2014", 1849, 2000, False, "f923e589325e3640ea7b8844d78fbaf2fb67f6a96f6ca5c059bc0f2492b2a54e"),
    Circuit(
        "Singapore", "sg-2008", 2154, 2000, False, "aa9584b50acffaabed7a06b5c0baa37fab38f0c70ad3c5ebba27706f3371bf9c"
    ),
    Circuit("Spain", "es-1991", 2372, 2000, False, "739784fa7fe51e38040b7a30a21fe5288564f8901a87fbb27c8cc22462a05c29"),
    Circuit("UK", "gb-1948", 1961, 2000, False, "1e526462a785f15acb6bf9af2fefa7a1b4521e665bfbe663d58539516ba9ea68"),
    Circuit("USA", "us-2012", 1861, 2000, False, "199621d61cf0b50429fc9fcf1a8dabf016df453e33bf64299a651e1acad7e158"),
)
"""The 20 circuits in the order of the published table."""


HELP = f"""\
Run once with a network connection, or get the folder `circuits` of github.com/bacinger/f1-circuits and name it with \
--tracks DIR or the environment variable {VARIABLE}"""


class CircuitError(LevelError):
    """A circuit that cannot be found or read. The message says what to do."""


def use_tracks(directory: str | Path) -> None:
    """Read circuits from a directory of GeoJSON files from now on, in this process and its children.

    Raises:
        CircuitError: there is no such directory, or a circuit is missing in it.
    """
    folder = at_home(directory)
    if not folder.is_dir():
        raise CircuitError(f"{folder} is no directory; give the one that holds the GeoJSON files of the circuits")
    missing = [f"{circuit.file}.geojson" for circuit in CIRCUITS if not _file_in(folder, circuit).is_file()]
    if missing:
        raise CircuitError(f"{folder} lacks {len(missing)} of {len(CIRCUITS)} circuits: {', '.join(missing)}")
    os.environ[VARIABLE] = str(folder.resolve())


def _file_in(folder: Path, circuit: Circuit) -> Path:
    return folder / f"{circuit.file}.geojson"


def find(circuit: Circuit, fetch: Callable[[Circuit], Path] | None = None) -> Path:
    """The circuit's file: in the directory that `use_tracks` or the environment names, else downloaded once and kept.

    Args:
        circuit: which.
        fetch: downloads it; by default from `SOURCE`, checked against its checksum.

    Raises:
        CircuitError: it is not there and cannot be fetched.
    """
    folder = os.environ.get(VARIABLE)
    if folder:
        file = _file_in(at_home(folder), circuit)
        if not file.is_file():
            raise CircuitError(f"{file} does not exist; {VARIABLE} must name a directory with all circuits")
        return file
    try:
        return (fetch or download)(circuit)
    except (OSError, ValueError) as error:
        raise CircuitError(
            f"the circuit {circuit.name} is not on this machine and cannot be fetched ({type(error).__name__}). {HELP}"
        ) from error


def download(circuit: Circuit, source: str = SOURCE, cache_folder: str | Path | None = None) -> Path:
    """Fetch a circuit into the user's cache, unless it is there.

    Raises:
        OSError: it cannot be fetched.
        ValueError: what came is not what was expected.
    """
    name = f"{circuit.file}.geojson"
    path = pooch.os_cache("clutr") / "f1-circuits" if cache_folder is None else cache_folder
    store = pooch.create(path=path, base_url=source, registry={name: f"sha256:{circuit.sha256}"}, retry_if_failed=2)
    pooch.get_logger().setLevel("WARNING")
    return Path(store.fetch(name))


def centre_line(circuit: Circuit, source: str) -> Floats:
    """The circuit's tiles `[TILES, 2]` in units, in driving order from the file's first point on.

    Raises:
        LevelError: the source is no closed line, or it crosses itself.
    """
    metres = parse_geojson(source) * np.array([1.0, -1.0])
    if (signed_area(metres) < 0) != circuit.clockwise:
        metres = np.concatenate([metres[:1], metres[:0:-1]])
    return fit(metres, circuit.length, TILES)


def circuit_level(circuit: Circuit) -> CentreLineLevels:
    """The circuit as one level.

    Raises:
        CircuitError: it cannot be found or read; the message names the file.
    """
    return _read(circuit, str(find(circuit)))


@cache
def _read(circuit: Circuit, path: str) -> CentreLineLevels:
    try:
        source = read_level_text(path)
    except LevelError as error:
        raise CircuitError(str(error)) from error
    try:
        line = centre_line(circuit, source)
    except LevelError as error:
        raise CircuitError(f"{path}: {error}") from error
    return CentreLineLevels(torch.from_numpy(line).float()[None], torch.tensor([TILES]))
