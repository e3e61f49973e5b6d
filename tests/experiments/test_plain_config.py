"""Every field of every configuration is checked when it is read: typed, ranged, and named in the error."""

import dataclasses
import math
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from longer import examples

import clutr
from clutr.experiments import config
from clutr.experiments.config import from_yaml, to_plain, to_yaml
from clutr.experiments.plain_config import differences
from clutr.experiments.storage import RunError
from clutr.experiments.training.lookup import override
from clutr.experiments.training.presets import PRESETS
from clutr.experiments.world_model import config as world_config
from clutr.experiments.world_model.config import WORLD_PRESETS
from clutr.world_model.backbones.base import BACKBONES
from clutr.world_model.cores.base import CORES

MAZE = to_yaml(PRESETS["maze-clutr"])

WRONG = {
    "no boolean": (
        "see_through_walls: true",
        "see_through_walls: 'no'",
        "domain.see_through_walls must be true or fal",
    ),
    "no number": ("learning_rate: 0.0007", "learning_rate: quick", "rate must be a number, got 'quick'"),
    "nothing": ("\nseed: 1", "\nseed:", "seed must be a whole number, got None"),
    "text": ("\nseed: 1", "\nseed: abc", "seed must be a whole number, got 'abc'"),
    "negative": ("\nseed: 1", "\nseed: -1", "seed must be at least 0, got -1"),
    "half": ("max_steps: 250", "max_steps: 20.5", "domain.max_steps must be a whole number, got 20.5"),
    "float for int": ("num_envs: 32", "num_envs: 8.0", "num_envs must be a whole number, got 8.0"),
    "boolean for int": ("num_envs: 32", "num_envs: yes", "num_envs must be a whole number, got True"),
    "not a number": ("discount: 0.99", "discount: .nan", "must be a number, got nan"),
    "no choice": ("torso: symbols", "torso: wide", "student.torso must be conv or symbols, got 'wide'"),
    "null for text": ("device: cpu", "device: null", "device must be text, got None"),
    "twice": ("num_envs: 32", "num_envs: 32\nnum_envs: 64", "num_envs is there twice"),
    "a slip": (
        "num_envs: 32",
        "num_env: 32",
        r"no option is called 'num_env'; did you mean num_envs\? There are: domain",
    ),
    "inside a part": (
        "max_steps: 250",
        "maxsteps: 250",
        "option is called 'domain.maxsteps'; did you mean domain.max_st",
    ),
    "a slip in a kind": ("kind: set-vae", "kind: setvae", "no manifold is called 'setvae'; did you mean set-vae"),
    "no list": ("\nseed: 1", "\nseed: [1]", r"seed must be a whole number, got \[1\]"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_wrong_value_is_one_error_that_names_file_field_and_value(case: str, tmp_path: Path) -> None:
    right, wrong, said = WRONG[case]
    assert right in MAZE
    file = tmp_path / "config.yaml"
    file.write_text(MAZE.replace(right, wrong))
    with pytest.raises(RunError, match=rf"{file}.*{said}"):
        config.read(file)


def test_a_number_with_an_exponent_is_a_number() -> None:
    read = from_yaml(MAZE.replace("learning_rate: 0.0007", "learning_rate: 1e-4"))
    assert read.student.learning_rate == 1e-4  # type: ignore[attr-defined]


def test_a_part_must_hold_options() -> None:
    plain = to_plain(PRESETS["maze-dr"]) | {"domain": "maze"}
    with pytest.raises(RunError, match=r"domain must hold options by name, such as \{kind: car\}, got 'maze'"):
        config.from_plain(plain)
    with pytest.raises(RunError, match=r"domain.kind: no domain is called None; there are: car, maze"):
        config.from_plain(plain | {"domain": {}})
    with pytest.raises(RunError, match=r"^curriculum is missing$"):
        config.from_plain(
            {name: value for name, value in plain.items() if name != "curriculum"} | {"domain": {"kind": "maze"}}
        )


@pytest.mark.parametrize("content", [b"\xff\xfen\x00", "dom\xe4ne: 1".encode("latin-1"), b"a: \0"])
def test_other_encodings_are_named(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "world.yaml").write_bytes(content)
    with pytest.raises(RunError, match=r"world\.yaml is not (UTF-8 text: byte \d is 0x|valid YAML)"):
        world_config.read(tmp_path / "world.yaml")
    with pytest.raises(RunError, match=r"cannot read .*: Is a directory"):
        config.read(tmp_path)


def test_world_models_are_read_alike(tmp_path: Path) -> None:
    text = world_config.to_yaml(WORLD_PRESETS["car"])
    wrong = {"walk: 0.3": "walk: true", "- 16": "- 16.5", "  core:\n    kind: lstm": "  core:\n    kind: [lstm]"}
    said = [
        "record.walk must be a number",
        "backbone.channels must be a whole number, got 16.5",
        "memory.core.kind: no ",
    ]
    for (right, other), message in zip(wrong.items(), said, strict=True):
        (tmp_path / "world.yaml").write_text(text.replace(right, other))
        with pytest.raises(RunError, match=rf"world\.yaml: {message}"):
            world_config.read(tmp_path / "world.yaml")


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"seed": "abc"}, "seed must be a whole number, got 'abc'"),
        ({"num_envs": 8.0}, "num_envs must be a whole number, got 8.0"),
        ({"student": {"hidden": None}}, "student.hidden must be a whole number, got None"),
        ({"student": {"hiden": 3}}, "no option is called 'student.hiden'; did you mean student.hidden?"),
        ({"manifold": {"latent": 4}}, "there is no manifold whose options could change"),
        ({"curriculum": "acel"}, "no curriculum is called 'acel'; did you mean accel?"),
        ({"curriculum": 7}, "curriculum must hold options by name"),
    ],
)
def test_overrides_are_checked_alike(fields: dict[str, Any], said: str) -> None:
    with pytest.raises(RunError, match=said.replace("?", r"\?")):
        override(PRESETS["maze-dr"], **fields)


def test_numbers_of_numpy_are_numbers() -> None:
    found = override(PRESETS["maze-dr"], seed=np.int64(3), student={"learning_rate": "1e-4"})
    assert to_yaml(found) == to_yaml(override(PRESETS["maze-dr"], seed=3, student={"learning_rate": 1e-4}))


# --- every registered configuration


def _parts(value: Any) -> dict[type, Any]:
    found = {type(value): value}
    for field in dataclasses.fields(value):
        part = getattr(value, field.name)
        found |= _parts(part) if dataclasses.is_dataclass(part) else {}
    return found


def _all_configurations() -> dict[type, Any]:
    found: dict[type, Any] = {}
    for preset in (*PRESETS.values(), *WORLD_PRESETS.values()):
        found = _parts(preset) | found
    registries = (clutr.CURRICULA, clutr.STUDENTS, clutr.MANIFOLDS, BACKBONES, CORES)
    for registry in registries:
        found |= {registry[name]: registry[name]() for name in registry}
    return found


SIGNED = {"value_coefficient", "entropy_coefficient"}
"""Weights of a loss, of which any sign has a meaning."""


@pytest.mark.parametrize("value", _all_configurations().values(), ids=lambda value: type(value).__name__)
def test_every_number_has_a_range(value: Any) -> None:
    for field in dataclasses.fields(value):
        present = getattr(value, field.name)
        if isinstance(present, int | float) and not isinstance(present, bool) and field.name not in SIGNED:
            for wrong in [-1, *([math.nan] if isinstance(present, float) else [])]:
                with pytest.raises(ValueError, match=field.name):
                    dataclasses.replace(value, **{field.name: wrong})


def test_differences_are_named_by_path() -> None:
    before, after = to_plain(PRESETS["maze-clutr"]), to_plain(PRESETS["maze-clutr-debug"])
    found = list(differences(before, after))
    assert "student.hidden (128, now 16)" in found
    assert "domain.height (13, now 5)" in found
    other = before | {"curriculum": {"kind": "random"}, "manifold": None}
    assert list(differences(before, other)) == ["curriculum (clutr, now random)", "manifold (set-vae, now None)"]


# --- whatever is written there

_SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=6),
    st.sampled_from([10**400, "1e-4", "1e999", "kind"]),
)
_VALUES = st.recursive(
    _SCALARS, lambda each: st.lists(each, max_size=3) | st.dictionaries(st.text(max_size=4), each, max_size=3)
)


def _paths(plain: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    found = [path] if path else []
    if isinstance(plain, dict):
        for name, value in plain.items():
            found += _paths(value, (*path, name))
    return found


@cache
def _text(world: bool) -> str:
    return world_config.to_yaml(WORLD_PRESETS["maze-debug"]) if world else to_yaml(PRESETS["maze-clutr-debug"])


def _agrees(written: Any, read: Any) -> bool:
    """Whether all that is written is what was read; what is not written has its default."""
    if isinstance(written, dict):
        return isinstance(read, dict) and all(name in read and _agrees(written[name], read[name]) for name in written)
    if isinstance(written, list):
        same = isinstance(read, list | tuple) and len(read) == len(written)
        return same and all(map(_agrees, written, read))
    if isinstance(written, str) and isinstance(read, float):  # 1e-4, which YAML takes for text
        return float(written) == read
    return bool(written == read) and isinstance(written, bool) == isinstance(read, bool)


def _read_or_refused(text: str, world: bool) -> str:
    """Reads what is written there, or refuses it. Returns why, which names the file."""
    try:
        read: Any = world_config.from_yaml(text) if world else from_yaml(text)
    except RunError as error:
        reason = str(error)
    else:
        plain = (world_config.to_plain if world else to_plain)(read)
        assert _agrees(yaml.safe_load(text), plain)
        assert (world_config.from_yaml(world_config.to_yaml(read)) if world else from_yaml(to_yaml(read))) == read
        return ""
    assert reason.startswith("world.yaml" if world else "config.yaml")
    return reason


@pytest.mark.mutations
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.booleans())
def test_mutated_values_are_read_as_written_or_refused_by_name(data: st.DataObject, world: bool) -> None:
    plain = yaml.safe_load(_text(world))
    *way, name = data.draw(st.sampled_from(_paths(plain)))
    inner = plain
    for step in way:
        inner = inner[step]
    change = data.draw(st.sampled_from(["replace", "remove", "add"]))
    if change == "replace":
        inner[name] = data.draw(_VALUES)
    elif change == "remove":
        del inner[name]
    else:
        inner[data.draw(_SCALARS)] = data.draw(_VALUES)
    reason = _read_or_refused(yaml.safe_dump(plain, sort_keys=False), world)
    if reason and change != "add":
        assert any(part in reason for part in (*way, name)), reason


@pytest.mark.mutations
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data(), st.booleans())
def test_mutated_text_is_read_as_written_or_refused(data: st.DataObject, world: bool) -> None:
    text = _text(world)
    at = data.draw(st.integers(0, len(text)))
    until = data.draw(st.integers(at, min(len(text), at + 30)))
    pieces = st.sampled_from(
        ["!!int ''", "!!bool x", "2020-99-99", "0b", "&a [*a]", "<<: 1", "- ", "\t", ": ", "\n", "? {}\n"]
    )
    _read_or_refused(text[:at] + data.draw(pieces | st.text(max_size=8)) + text[until:], world)
