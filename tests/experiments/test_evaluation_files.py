"""Evaluation files that other programs touched: what can be read is used, the rest is said."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from longer import examples

from clutr.experiments.evaluation_files import in_words, read_evaluations

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


@pytest.mark.mutations
@settings(max_examples=examples(100), deadline=None)
@given(mutations=st.lists(st.tuples(st.integers(0, len(WHOLE)), st.integers(0, 12), ADDED), max_size=3))
def test_no_mutated_file_is_a_traceback(tmp_path_factory: pytest.TempPathFactory, mutations: Any) -> None:
    content = WHOLE
    for at, cut, added in mutations:
        content = content[:at] + added + content[at + cut :]
    folder = tmp_path_factory.mktemp("e")
    (folder / "small.json").write_bytes(content)
    for kept in read_evaluations(folder):
        assert in_words([kept.result])
        assert kept.episodes >= 1
