"""The comparison at equal processor time: rows fit their worlds, are measured once, and the table tells them."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from clutr.envs.car.domain import CarDomain
from clutr.envs.maze.domain import MazeDomain
from clutr.experiments.storage import RunError
from clutr.experiments.studies import world_model_compare
from clutr.experiments.studies.world_model_compare import KEPT, Row, main, rows, table
from clutr.experiments.world_model.config import WORLD_PRESETS, RecordOptions
from clutr.experiments.world_model.run_directory import WorldModelRun, record
from clutr.world_model.backbones.ppca import PPCAConfig
from clutr.world_model.cores.base import CORES
from clutr.world_model.cores.lstm_gru import GRUConfig
from clutr.world_model.memory import MemoryConfig


@pytest.mark.parametrize("domain", [CarDomain(), MazeDomain(), MazeDomain(view=7)])
def test_every_core_has_a_row_whose_parts_fit(domain: Any) -> None:
    found = rows(domain, 10)
    assert {name.split(" ")[1] for name in found} == set(CORES)
    for name, row in found.items():
        backbone = row.backbone.build((64, 64), 1)
        memory = row.memory.build(backbone.latents, 3, 1)
        assert memory.initial_state(2).shape[0] == 2, name


def test_rows_are_measured_once_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    debug = replace(WORLD_PRESETS["maze-debug"], record=RecordOptions(32, 16, 10, walk=1.0, expert=0.0))
    record(WorldModelRun.create(tmp_path / "world", debug))
    small = {"ppca gru": Row(PPCAConfig(latents=4), MemoryConfig(GRUConfig(width=4), gaussians=1))}
    monkeypatch.setattr(world_model_compare, "rows", lambda *_: small)
    arguments = [str(tmp_path / "world"), str(tmp_path / "out.json"), "--seconds", "0.01", "--seeds", "3"]
    main(arguments)
    found: dict[str, Any] = json.loads((tmp_path / "out.json").read_text())
    row = found["rows"]["ppca gru"]["3"]
    assert row["passes"] == {"trained": 1, "untrained core": 1}, "one pass takes longer than was given"
    assert set(row["iou"]) == set(KEPT)
    assert row["iou"]["ceiling"][0] > row["iou"]["copy last"][0], "true motion is better than none"
    row["iou"]["trained"][0] = 0.123
    (tmp_path / "out.json").write_text(json.dumps(found))
    main(arguments)
    assert json.loads((tmp_path / "out.json").read_text())["rows"]["ppca gru"]["3"] == row
    assert "| ppca gru | 1 | 1 | 0.12 |" in (tmp_path / "out.md").read_text()
    both = found | {"rows": {"ppca gru": {"3": row, "4": row | {"iou": row["iou"] | {"trained": [0.323] * 3}}}}}
    assert "| 2 | 1 [1, 1] | 0.22 [0.12, 0.32] |" in table(both)
    with pytest.raises(RunError, match=r"has rows of the budget .*0\.01.*: name another file"):
        main([*arguments[:-4], "--seeds", "3"])
    with pytest.raises(RunError, match="no row is called 'quilt'; there are: ppca gru"):
        main([*arguments[:2], "quilt"])
