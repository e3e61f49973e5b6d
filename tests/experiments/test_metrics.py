"""Metrics files: rows by update, exact floats, killed writers, new columns."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from longer import examples

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


WHOLE = "update,steps,a\n1,10,0.5\n2,20,nan\n3,30,0.25\n"


def read(path: Path, content: str | bytes) -> MetricsFile:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return MetricsFile(path)


@pytest.mark.parametrize(
    "content",
    [
        "\ufeff" + WHOLE,
        WHOLE.replace("\n", "\r\n"),
        WHOLE.replace(",", ";").replace(".", ","),
        WHOLE.replace(",", "\t"),
        '"update","steps","a"\n"1","10","0.5"\n2.0,20,\n3,30,0.25\n',
    ],
)
def test_what_a_spreadsheet_saved_is_read(tmp_path: Path, content: str, caplog: pytest.LogCaptureFixture) -> None:
    file = read(tmp_path / "m.csv", content)
    assert {name: values[[0, 2]].tolist() for name, values in file.columns().items()} == {
        "update": [1, 3],
        "steps": [10, 30],
        "a": [0.5, 0.25],
    }
    assert np.isnan(file.columns()["a"][1])
    file.truncate(2)
    file.append({"update": 3, "steps": 30, "a": 1.5})
    assert file.path.read_text().splitlines()[-1] == "3,30,1.5"
    assert file.columns()["update"].tolist() == [1, 2, 3]
    assert not caplog.records


def test_stray_rows_are_left_out_and_said_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = read(tmp_path / "m.csv", WHOLE + "mean;of;all\n4,40,high\n5,50,0.5,7\n6,60,0.5\n")
    assert file.columns()["update"].tolist() == [1, 2, 3, 4, 6]
    file.columns()
    [record] = caplog.records
    assert "m.csv: 3 of its 7 rows do not fit its first line; what could be read is used" in record.getMessage()
    file.truncate(4)
    assert "the whole file is kept as m.csv.unread" in caplog.records[-1].getMessage()
    assert (tmp_path / "m.csv.unread").read_text().endswith("6,60,0.5\n")
    assert MetricsFile(file.path).columns()["update"].tolist() == [1, 2, 3, 4]


def test_what_was_kept_is_not_lost_to_what_is_kept_next(tmp_path: Path) -> None:
    for number in (1, 2):
        read(tmp_path / "m.csv", f"{WHOLE}{number};\n").truncate(2)
        assert MetricsFile(tmp_path / "m.csv").rows() == [
            {"update": "1", "steps": "10", "a": "0.5"}, {"update": "2", "steps": "20", "a": "nan"}
        ]  # fmt: skip
    assert (tmp_path / "m.csv.unread").read_text() == f"{WHOLE}1;\n"
    assert (tmp_path / "m.csv.unread-2").read_text() == f"{WHOLE}2;\n"


def test_a_file_without_updates_is_kept_and_begun_anew(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    file = read(tmp_path / "m.csv", "shopping\nmilk\n")
    assert file.columns() == {}
    assert "its first line does not name the column update" in caplog.text
    file.truncate(9)
    file.append({"update": 10, "a": 0.5})
    assert file.columns() == {"update": np.array([10.0]), "a": np.array([0.5])}
    assert (tmp_path / "m.csv.unread").read_text() == "shopping\nmilk\n"
    assert read(tmp_path / "empty.csv", "").columns() == {}


MUTATIONS = st.lists(
    st.tuples(
        st.integers(0, len(WHOLE)), st.integers(0, 12), st.binary(max_size=6) | st.sampled_from([b'"', b";", b"\n"])
    ),
    max_size=4,
)


@pytest.mark.mutations
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutations=MUTATIONS)
def test_of_a_mutated_file_whole_lines_are_read_as_they_were(tmp_path: Path, mutations: Any) -> None:
    content = WHOLE.encode()
    for at, cut, added in mutations:
        content = content[:at] + added + content[at + cut :]
    file = read(tmp_path / "m.csv", content)
    first, *untouched = WHOLE.encode().splitlines()
    header, *lines = content.split(b"\n")[:-1] or [b""]
    if header == first:
        kept = [dict(zip(first.decode().split(","), line.decode().split(","), strict=True)) for line in untouched
                if line in lines]  # fmt: skip
        rows = [{name: row.get(name, "") for name in first.decode().split(",")} for row in file.rows()]
        assert all(row in rows for row in kept)
        assert len(rows) <= len(lines)
    assert len({len(values) for values in file.columns().values()}) <= 1
    file.truncate(2)
    assert all(update <= 2 for update in file.columns().get("update", []))
    file.append({"update": 3, "steps": 30, "a": 0.75})
    again = MetricsFile(file.path).columns()
    assert (again["update"][-1], again["a"][-1]) == (3, 0.75)
    MetricsFile(file.path).truncate(2)
    for unread in tmp_path.glob("m.csv.unread*"):
        assert unread.read_bytes() == content, "what could not be read is kept, once"
        unread.unlink()
