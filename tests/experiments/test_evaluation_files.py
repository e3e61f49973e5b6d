"""Evaluation files that other programs touched: what can be read is used, the rest is said."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from longer import examples

from clutr.experiments.evaluation_files import in_words, read_evaluations
from clutr.experiments.files import warn_once

GOOD: dict[str, Any] = {
    "run": "r",
    "suite": "small",
    "levels": [{"level": "a", "episodes": 2, "solved": 0.5, "return_mean": 0.25, "return_std": 0.5}],
    "summary": {"steps": 20, "seed": 3, "deterministic": True, "mean_solved": 0.5, "mean_solved_interval": [0.1, 0.9]},
}
WHOLE = json.dumps(GOOD).encode()
ADDED = st.binary(max_size=4) | st.sampled_from([b"null", b"[]", b"NaN", b"-1", b"1e999", b'"'])


def test_a_broken_file_is_left_out_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for name, content in (("good", WHOLE), ("half", WHOLE[:90]), ("wrong", WHOLE.replace(b"0.25", b'"x"'))):
        (tmp_path / f"{name}.json").write_bytes(content)
    assert [kept.result for kept in read_evaluations(tmp_path)] == [GOOD]
    assert "half.json is left out: it is no evaluation" in caplog.text
    assert "level a: return_mean must be a number" in caplog.text


def is_evaluation(content: bytes) -> bool:
    """Whether every figure that a table needs is there and makes sense: the rules once more, in a few lines."""

    def numbers(*values: Any) -> bool:
        return all(type(value) in (int, float) and abs(value) < 1e300 for value in values)

    def whole(value: Any) -> bool:
        return type(value) is int and 0 <= value < 2**63

    def holds(name: str, value: Any) -> bool:
        if name in ("steps", "seed", "run_seed"):
            return whole(value)
        if name.endswith("_interval"):
            return isinstance(value, list) and len(value) == 2 and numbers(*value) and value[0] <= value[1]
        kinds = ("mean_", "median_", "iqm_", "optimality_")
        assert name != "cvar", "no mutation makes one"
        return value in ("solved", "return") if name == "metric" else not name.startswith(kinds) or numbers(value)

    try:
        value = json.loads(content.decode())
        rows = value["levels"]
        texts = [value["run"], value["suite"], *(row["level"] for row in rows)]
        return (
            all(isinstance(text, str) for text in texts)
            and isinstance(rows, list)
            and len(rows) == len({row["level"] for row in rows}) > 0
            and all(whole(row["episodes"]) and row["episodes"] == rows[0]["episodes"] > 0 for row in rows)
            and all(numbers(row["solved"], row["return_mean"], row["return_std"]) for row in rows)
            and all(0 <= row["solved"] <= 1 and "returns" not in row for row in rows)
            and all(holds(*item) for item in value["summary"].items())
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return False


@pytest.mark.mutations
@settings(
    max_examples=examples(60),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(mutations=st.lists(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 12), ADDED), max_size=3))
def test_a_mutated_file_is_used_as_it_is_or_left_out_and_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mutations: Any
) -> None:
    content = WHOLE
    for at, cut, added in mutations:
        content = content[:at] + added + content[at + cut :]
    (tmp_path / "small.json").write_bytes(content)
    caplog.clear()
    warn_once.cache_clear()
    found = read_evaluations(tmp_path)
    if is_evaluation(content):
        assert [json.dumps(kept.result) for kept in found] == [json.dumps(json.loads(content.decode()))]
        assert in_words([found[0].result]).startswith("at ")
        assert caplog.records == []
    else:
        assert found == []
        (said,) = [record.getMessage() for record in caplog.records]
        assert said.startswith(f"{tmp_path / 'small.json'} is left out: it is no evaluation (")
    assert (tmp_path / "small.json").read_bytes() == content, "nobody repaired or removed it"
