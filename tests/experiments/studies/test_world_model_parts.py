"""The study of backbones and cores: its rows are whole, and its table says what was measured."""

import pytest
from worlds import few_mazes

from clutr.experiments.studies.world_model_parts import SIZES, look, measure, rows, table
from clutr.world_model.backbones.ppca import PPCAConfig
from clutr.world_model.cores.lstm_gru import GRUConfig
from clutr.world_model.evaluation import EvaluationOptions


def test_rows_compare_equal_numbers_of_latents() -> None:
    found = rows()
    for k in SIZES:
        for name in ("haar", "ppca", "patch-pca", "ppca-residual", "vae"):
            assert found[f"{name}-{k}"].backbone.build((64, 64), 1).latents == k
    assert {"vae-32-gru", "vae-32-lmu", "vae-32-ssm", "vae-32-koopman", "vae-32-aaren"} <= set(found)


def test_a_row_is_measured_and_told(tmp_path_factory: pytest.TempPathFactory) -> None:
    dataset = few_mazes(tmp_path_factory).dataset()
    options = EvaluationOptions(context=3, horizon=5, windows=4, pictured=2, horizons=(1, 5))
    found = measure(GRUConfig(width=8), look(PPCAConfig(latents=6), dataset, 1), dataset, 1, options)
    assert set(found["nrmse_at"]["trained"]) == {"1", "5"}
    assert found["pictures"]["mse_in/agent"] >= 0
    assert "mse_in/unseen" in found["pictures"]
    assert set(found["valid_horizon"]) >= {"trained", "untrained core", "copy last", "linear"}
    assert found["health"]["active_dimensions"] <= 6
    assert sum(found["health"]["variables"].values()) == 6
    dream = found["dream"]
    assert dream["pictures"]["trained"]["mse"][0] > 0
    assert all(set(values) == {"1", "5"} for values in dream["physical"]["untrained core"].values())
    text = table({"rows": {"modes-6": found}})
    assert f"| modes-6 | {found['pictures']['mse']:.5f} |" in text
    assert text.count("|---") == 13
