"""Experiments as text: complete, lossless, with clear errors."""

import dataclasses
from typing import Any

import pytest

from clutr.experiments.config import from_yaml, manifold_id, method_of, to_plain, to_yaml
from clutr.experiments.storage import RunError
from clutr.experiments.training.presets import PRESETS


@pytest.mark.parametrize("name", PRESETS)
def test_yaml_round_trips_and_is_complete(name: str) -> None:
    experiment = PRESETS[name]
    text = to_yaml(experiment)
    assert from_yaml(text) == experiment
    for field in dataclasses.fields(experiment.curriculum):  # type: ignore[arg-type]  # configs are dataclasses
        assert f"  {field.name}:" in text


def test_unknown_option_is_named() -> None:
    text = to_yaml(PRESETS["maze-dr"]).replace("num_envs:", "num_env:")
    with pytest.raises(RunError, match="no option is called 'num_env'; did you mean num_envs"):
        from_yaml(text)


def test_unknown_kind_is_named() -> None:
    text = to_yaml(PRESETS["maze-dr"]).replace("kind: maze", "kind: labyrinth")
    with pytest.raises(RunError, match=r"domain\.kind: no domain is called 'labyrinth'; there are: .*maze"):
        from_yaml(text)


def test_bad_value_is_named() -> None:
    text = to_yaml(PRESETS["maze-dr"]).replace("view: 5", "view: 4")
    with pytest.raises(RunError, match=r"domain\.view must be odd"):
        from_yaml(text)


@pytest.mark.parametrize("text", ["", "- 1", "{a", "12"])
def test_rubbish_is_one_error(text: str) -> None:
    with pytest.raises(RunError, match=r"config\.yaml"):
        from_yaml(text)


def test_yaml_cannot_run_code() -> None:
    with pytest.raises(RunError, match="not valid YAML"):
        from_yaml("domain: !!python/object/apply:os.getcwd []")


def test_manifold_is_shared_by_seeds_but_not_by_domains() -> None:
    experiment = PRESETS["maze-clutr"]
    assert manifold_id(experiment) == manifold_id(dataclasses.replace(experiment, seed=99, total_steps=1))
    other_domain = dataclasses.replace(experiment, domain=dataclasses.replace(experiment.domain, height=9))  # type: ignore[type-var]
    assert manifold_id(experiment) != manifold_id(other_domain)
    assert manifold_id(experiment) != manifold_id(dataclasses.replace(experiment, manifold_seed=2))


def test_plain_names_every_kind() -> None:
    plain = to_plain(PRESETS["maze-clutr"])
    kinds = {part: plain[part]["kind"] for part in ("domain", "curriculum", "student", "manifold")}
    assert kinds == {"domain": "maze", "curriculum": "clutr", "student": "ppo", "manifold": "set-vae"}


def test_an_unknown_device_is_named() -> None:
    text = to_yaml(PRESETS["maze-dr"]).replace("device: cpu", "device: abacus")
    with pytest.raises(RunError, match="device must be cpu, cuda, or a GPU by its number such as cuda:1, got 'abacus'"):
        from_yaml(text)
    without = to_yaml(PRESETS["maze-dr"]).replace("device: cpu\n", "")
    assert from_yaml(without) == PRESETS["maze-dr"], "runs from before the option are on the CPU"


def test_seeds_and_device_make_no_other_method() -> None:
    base = to_plain(PRESETS["maze-dr"])
    without = {name: value for name, value in base.items() if name != "device"}  # written before there was a choice
    others: list[dict[str, Any]] = [base | {"seed": 7, "manifold_seed": 3}, base | {"device": "cuda"}, without]
    assert [method_of(other) == method_of(base) for other in others] == [True, True, True]
    assert method_of(base | {"total_steps": 1}) != method_of(base)
