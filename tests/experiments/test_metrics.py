"""Metrics files: rows by update, exact floats, killed writers, new columns."""

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from clutr.experiments.metrics import MetricsFile


def test_columns_keep_floats_exactly(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "m.csv")
    values = [0.1, 1 / 3, 1e-300, float(np.float32(0.1))]
    for update, value in enumerate(values):
        file.append({"update": update, "value": value})
    assert MetricsFile(tmp_path / "m.csv").columns()["value"].tolist() == values


def test_new_column_is_added_to_the_right(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "m.csv")
    file.append({"update": 1, "a": 1.0})
    file.append({"update": 2, "b": 2.0})
    assert (tmp_path / "m.csv").read_text() == "update,a,b\n1,1.0,\n2,,2.0\n"
    assert np.isnan(file.columns()["a"][1])


def test_truncate_drops_later_rows(tmp_path: Path) -> None:
    file = MetricsFile(tmp_path / "m.csv")
    for update in range(1, 6):
        file.append({"update": update, "a": 0.5})
    file.truncate(3)
    file.append({"update": 4, "a": 0.75})
    assert file.columns()["update"].tolist() == [1, 2, 3, 4]


@given(cut=st.integers(0, 60))
def test_a_writer_killed_anywhere_leaves_whole_rows(tmp_path_factory: object, cut: int) -> None:
    directory: Path = tmp_path_factory.mktemp("m")  # type: ignore[attr-defined]  # hypothesis and pytest's typing
    file = MetricsFile(directory / "m.csv")
    for update in range(1, 6):
        file.append({"update": update, "a": 0.5})
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[:cut])
    again = MetricsFile(file.path)
    rows = again.rows()
    assert [row["update"] for row in rows] == ["1", "2", "3", "4", "5"][: len(rows)]
    again.truncate(5)
    again.append({"update": 6, "a": 0.5})
    assert again.rows()[-1] == {"update": "6", "a": "0.5"}
